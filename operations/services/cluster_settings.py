"""What operations need to know about a cluster: read, checked and stored."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import yaml
from django.conf import settings as conf
from django.db import transaction
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import InvalidInput
from beidou.base.models import User
from beidou.base.storable import unstorable_in
from clusters.models import Cluster
from machines.models import SshCredential
from machines.services import belonging
from operations.drivers import ansible, artifacts
from operations.models import ClusterSettings
from operations.services import site_values

LIMIT_MAX = 50
SITE_VARIABLES = frozenset(
    {
        "cgroup_driver",
        "kubeadm_ignore_preflight_errors",
        "node_ip",
        "node_processes",
        "pod_networks",
        "post_check_wait_seconds",
        "probe_image",
        "sandbox_image",
    }
)
"""Variables of steps and playbooks, beside the defaults of the roles, that a site may set."""

ENGINE_VARIABLES = frozenset(
    {
        "artifacts_list",
        "etcd_snapshot_folder",
        "etcd_snapshot_keep",
        "join_cluster_advertise_address",
        "join_cluster_anew",
        "join_cluster_certificate_key",
        "join_cluster_joining_taint",
        "kubernetes_node_has_new_kubelet",
        "kubernetes_node_is_joined",
        "reset_node_any_cluster",
        "reset_node_ca_cert_hashes",
        "reset_node_control_plane",
        "reset_node_node_name",
        "routed_network_routes_only",
    }
)
"""Defaults of roles that decide what is touched, or that a step relies on: the engine's alone."""
ENGINE_ARGUMENTS = frozenset(
    {
        "bootstrap-kubeconfig",
        "hostname-override",
        "kubeconfig",
        "node-labels",
        "register-node",
        "register-with-taints",
    }
)
"""Arguments of the kubelet that decide as what, and how, the node joins: the engine's alone."""
FIELDS = ("credential", "artifact_source", "overrides", "policy", "limit", "time_zone")
_TEMPLATE = re.compile(r"\{[{%#]")
_REGISTRY = re.compile(r"_default|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?")
_POLICY = Path(__file__).resolve().parent.parent / "ansible" / "policies" / "default.yml"


def credentials_of_clusters(clusters: Collection[int] | None) -> dict[int, SshCredential]:
    """By cluster (all, for None): what the portal signs in with at machines that have no credential
    of their own."""
    rows = ClusterSettings.objects.filter(credential__isnull=False).select_related("credential")
    if clusters is not None:
        rows = rows.filter(cluster__in=clusters)
    return {row.cluster_id: row.credential for row in rows if row.credential is not None}


@cache
def default_policy() -> dict[str, Any]:
    """What preCheck demands where a cluster says nothing else."""
    loaded: dict[str, Any] = yaml.safe_load(_POLICY.read_text())["default_policy"]
    return loaded


def settings_of(cluster: Cluster) -> ClusterSettings:
    """The cluster's settings; an unsaved row with the defaults when none were made yet."""
    found = ClusterSettings.objects.select_related("credential").filter(cluster=cluster).first()
    return found or ClusterSettings(cluster=cluster)


def save_settings(
    *, cluster: Cluster, values: Mapping[str, Any], acting_user: User, reason: str = ""
) -> ClusterSettings:
    """Check and store ``values`` (any of ``FIELDS``); ``InvalidInput`` names every wrong field."""
    permissions.require(acting_user, cluster, permissions.CHANGE)
    problems = find_problems(values, acting_user=acting_user, kept=settings_of(cluster))
    if problems:
        name, sentence = next(iter(problems.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_settings", fields=problems)
    with transaction.atomic():
        row, _made = ClusterSettings.objects.select_for_update().get_or_create(cluster=cluster)
        before = audit.snapshot(row)
        for name in FIELDS:
            if name in values:
                setattr(row, name, values[name])
        old, new = audit.difference(before, audit.snapshot(row))
        if new:
            row.save()
            audit.record("change", row, before=old, after=new, reason=reason)
    return row


def find_problems(
    values: Mapping[str, Any], *, acting_user: User, kept: ClusterSettings
) -> dict[str, str]:
    """Field -> sentence for what cannot be stored."""
    checks = {
        "artifact_source": _source_problem,
        "overrides": _overrides_problem,
        "policy": _policy_problem,
        "limit": _limit_problem,
        "time_zone": _zone_problem,
    }
    found = {
        name: sentence
        for name, check in checks.items()
        if name in values and (sentence := check(values[name]))
    }
    credential = values.get("credential")
    if credential is not None and credential.pk != kept.credential_id:
        usable = belonging.credentials_of(acting_user)
        if not usable.filter(pk=credential.pk).exists():
            found["credential"] = _("There is no such credential, or you may not use it.")
    return found


def _source_problem(value: Any) -> str:
    if not value:
        return ""
    try:
        artifacts.check_source(str(value), folders=conf.ARTIFACT_FOLDERS)
    except InvalidInput as error:
        return error.message
    return ""


def _overrides_problem(value: Any) -> str:
    if not isinstance(value, dict):
        return _("Must be a mapping of variable names to values.")
    unknown = sorted(str(name) for name in value if name not in overridable())
    if unknown:
        return _("“%(name)s” is no variable that a site may set; those are %(known)s.") % {
            "name": unknown[0],
            "known": ", ".join(sorted(overridable())),
        }
    if problem := _unstorable_problem(value) or _template_problem(value):
        return problem
    for name, wanted in value.items():
        if not site_values.VARIABLES[name](wanted):
            return _not_like(name, site_values.EXAMPLES.get(name, _role_defaults().get(name)))
    # They become names of folders on the hosts.
    for registry in value.get("containerd_registry_mirrors", {}):
        if not _REGISTRY.fullmatch(str(registry)):
            return "containerd_registry_mirrors: " + _(
                "“%(name)s” is no registry; write host[:port]."
            ) % {"name": registry}
    for argument in value.get("join_cluster_kubelet_extra_args", []):
        if argument["name"] in ENGINE_ARGUMENTS:
            return "join_cluster_kubelet_extra_args: " + _(
                "write {name, value} for arguments of the kubelet, except for %(names)s."
            ) % {"names": ", ".join(sorted(ENGINE_ARGUMENTS))}
    return ""


def _not_like(name: str, example: Any) -> str:
    return _("%(name)s must be a value like %(example)s.") % {
        "name": name,
        "example": json.dumps(example),
    }


def _template_problem(value: Any) -> str:
    """The drivers make every text plain; nobody who writes a template here means plain text."""
    for text in _texts(value):
        if _TEMPLATE.search(text):
            return _("“%(text)s” looks like a template; only plain values are taken.") % {
                "text": text[:100]
            }
    return ""


def _texts(value: Any) -> Iterator[str]:
    """Every text in ``value``, keys among them, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, str):
            yield one


@cache
def overridable() -> frozenset[str]:
    """Variables that a site may set: the defaults of our roles, and a few of the steps.

    Anything else is refused: variables given to ansible outrank all others, and
    ``ansible_connection`` or ``ansible_ssh_common_args`` among them would run commands on the
    portal's machine.
    """
    return (SITE_VARIABLES | frozenset(_role_defaults())) - ENGINE_VARIABLES


@cache
def _role_defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for path in sorted(ansible.ROOT.glob("roles/*/defaults/main.yml")):
        defaults |= yaml.safe_load(path.read_text()) or {}
    return defaults


def _unstorable_problem(value: Any) -> str:
    """Forms read JSON themselves, and so meet what the parsers of the API refuse."""
    for path in unstorable_in(value):
        return _("%(name)s holds a text or a number that cannot be stored.") % {"name": path}
    return ""


def _policy_problem(value: Any) -> str:
    """Keys as in the default policy, and values that a host can be judged by."""
    if not isinstance(value, dict):
        return _("Must be a mapping like the default policy.")
    if problem := _unstorable_problem(value) or _template_problem(value):
        return problem
    for name, wanted in value.items():
        if name not in default_policy():
            return _("“%(name)s” is no key of a policy; known are %(known)s.") % {
                "name": name,
                "known": ", ".join(default_policy()),
            }
        if not site_values.POLICY[name](wanted):
            return _not_like(name, site_values.EXAMPLES.get(name, default_policy()[name]))
    return ""


def _zone_problem(value: Any) -> str:
    if not value or value in available_timezones():
        return ""
    return _("“%(name)s” is no time zone; write one like Europe/Berlin.") % {
        "name": str(value)[:64]
    }


def _limit_problem(value: Any) -> str:
    if value is None:
        return ""
    is_right = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LIMIT_MAX
    return "" if is_right else _("1 to %(max)s, or empty for the default.") % {"max": LIMIT_MAX}
