"""Making a cluster: its row, its operation settings and its operation come in one transaction.

So there is no cluster without an operation that makes it, and a refusal leaves nothing behind
(``docs/adr/0012``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import InvalidInput
from beidou.base.models import User
from clusters.models import Cluster
from clusters.services import creation
from clusters.services.adoption import Details
from machines.models import Machine
from operations.kinds import base as kinds
from operations.kinds.base import Blocker, Remark
from operations.kinds.create_cluster import planning
from operations.kinds.create_cluster.params import CreateClusterParams, endpoint
from operations.models import Operation
from operations.services import cluster_settings, start
from operations.services.start import Plan

KIND = "CreateCluster"
MIRRORS = "containerd_registry_mirrors"


@dataclass(frozen=True)
class Wish:
    """A new cluster: how it is called, of which machines, and how its machines are reached.

    ``settings`` are its operation settings (``cluster_settings.FIELDS``); ``registry_mirror`` is
    the short form of the mirror that stands for every registry.
    """

    details: Details
    machines: Sequence[Machine]
    roles: Mapping[int, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    registry_mirror: str = ""


class _OnlyLooking(Exception):  # noqa: N818  no error: it undoes what was written for the look
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


def plan(*, wish: Wish, acting_user: User) -> Plan:
    """What would happen and what is in the way; nothing is contacted, and nothing stays written."""
    try:
        with audit.entries_last():
            cluster = make(wish, acting_user)
            raise _OnlyLooking(plan_for(wish, cluster, acting_user))
    except _OnlyLooking as looked:
        return looked.plan


def create(
    *, wish: Wish, acting_user: User, reason: str = "", forks: int = 10, name: str = ""
) -> Operation:
    """Begin to make the cluster.  No machine may be blocked: a cluster that lacks one of those
    that were chosen is another one."""
    with audit.entries_last():
        cluster = make(wish, acting_user)
        planned = plan_for(wish, cluster, acting_user)
        start.refuse_blockers(planned.kind, cluster, planned.blockers)
        return start.start_operation(
            kind=KIND,
            cluster=cluster,
            machines=wish.machines,
            params=wish.params,
            roles=wish.roles,
            acting_user=acting_user,
            name=name,
            reason=reason,
            forks=forks,
        )


def make(wish: Wish, user: User) -> Cluster:
    """The rows of the new cluster; whoever calls it begins what makes it, or undoes them."""
    params: CreateClusterParams = start.parse_params(kinds.get(KIND), wish.params)
    settings = _settings(wish)
    cluster = creation.begin(
        details=wish.details,
        version=params.kubernetes_version,
        server=f"https://{_endpoint(wish, params)}",
        pod_cidr=params.pod_network,
        service_cidr=params.service_network,
        user=user,
    )
    cluster_settings.save_settings(cluster=cluster, values=settings, acting_user=user)
    return cluster


def plan_for(wish: Wish, cluster: Cluster, user: User) -> Plan:
    planned = start.plan_operation(
        kind=KIND,
        cluster=cluster,
        machines=wish.machines,
        params=wish.params,
        roles=wish.roles,
        acting_user=user,
    )
    if problem := planning.count_problem(len(_control_planes(wish))):
        planned = replace(planned, blockers=(Blocker(None, problem), *planned.blockers))
    if not planned.params.control_plane_endpoint:
        remark = _(
            "No endpoint of the control planes is given: the cluster is known by the address of "
            "its first one and lost with that machine. This cannot be changed later."
        )
        planned = replace(planned, remarks=(*planned.remarks, Remark(None, remark)))
    return planned


def _control_planes(wish: Wish) -> list[Machine]:
    return [
        machine
        for machine in wish.machines
        if (wish.roles.get(machine.pk) or machine.role) == planning.CONTROL_PLANE
    ]


def _endpoint(wish: Wish, params: CreateClusterParams) -> str:
    if params.control_plane_endpoint:
        return params.control_plane_endpoint
    planes = _control_planes(wish) or list(wish.machines)
    return endpoint(str(planes[0].address)) if planes else ""


def _settings(wish: Wish) -> dict[str, Any]:
    settings = {name: value for name, value in wish.settings.items() if value not in (None, "")}
    if not wish.registry_mirror:
        return settings
    place = urlsplit(wish.registry_mirror)
    if place.scheme not in ("http", "https") or not place.hostname or place.username:
        sentence = _("A registry mirror is an http(s) address.")
        raise InvalidInput(sentence, code="bad_mirror", fields={"registry_mirror": sentence})
    mirrors = {"_default": [{"url": wish.registry_mirror}]}
    overrides = {MIRRORS: mirrors, **settings.get("overrides", {})}
    return {**settings, "overrides": overrides}
