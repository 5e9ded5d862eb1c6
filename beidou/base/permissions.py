"""Who may see and do what: one function for lists, pages, API, actions, streams and exports.

Rights are guardian object permissions of teams (Django groups) on clusters.  Whatever belongs to a
cluster follows the cluster; a machine without one follows its owner team.  A model states where
its rights come from with an ``Access``; ``visible_to`` turns that into a queryset and ``may`` into
an answer about one row.  guardian alone does not restrict the admin or DRF (their ``has_perm``
calls carry no object), therefore both bases (``admin.py``, ``api.py``) ask here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from beidou.base import context
from beidou.base.errors import Forbidden

VIEW, OPERATE, INSPECT, DEPLOY, CHANGE, APPROVE = (
    "view",
    "operate",
    "inspect",
    "deploy",
    "change",
    "approve",
)
ACTIONS = (VIEW, OPERATE, INSPECT, DEPLOY, CHANGE, APPROVE)

ACTION_LABELS = {
    VIEW: _("see"),
    OPERATE: _("operate"),
    INSPECT: _("inspect"),
    DEPLOY: _("deploy"),
    CHANGE: _("change"),
    APPROVE: _("approve"),
}

ROLES: dict[str, tuple[str, ...]] = {
    "viewer": (VIEW,),
    "operator": (VIEW, OPERATE, INSPECT),
    "deployer": (VIEW, DEPLOY),
    "owner": ACTIONS,
}
ROLE_LABELS = [
    ("viewer", _("Viewer")),
    ("operator", _("Operator")),
    ("deployer", _("Deployer")),
    ("owner", _("Owner")),
]
AUDITOR_PERMISSION = "base.audit_fleet"  # sees everything of the fleet, changes nothing

Row = TypeVar("Row", bound=models.Model)


@dataclass(frozen=True)
class Access:
    """Where the right to a row comes from.

    ``cluster``: lookup from the row to its cluster, ``""`` when the row is the cluster itself.
    ``team``: lookup to the owner team, which counts while the row has no cluster.
    ``owner``: lookup to the user whose private row this is; of rows with a cluster, those whose
    cluster is empty.
    ``owner_needs``: the right on any cluster without which being its owner does not count.
    ``shared``: lookup to whether whoever has that right may see the row, too.
    ``everyone``: whoever is signed in may see it.
    ``view_permission``: model permission with which every row may be seen (the audit trail).
    ``view_needs``: the right on the cluster that seeing needs, where plain ``view`` is too little.
    ``namespace``: lookup to the namespace of the row in its cluster; whoever was granted that one
    sees the row without a role on the cluster.  ``""`` for rows of no cluster: being granted any
    is as good as ``owner_needs``.
    """

    cluster: str | None = None
    team: str | None = None
    owner: str | None = None
    owner_needs: str = ""
    shared: str | None = None
    everyone: bool = False
    view_permission: str | None = None
    view_needs: str = "view"
    namespace: str | None = None


def access_of(model: type[models.Model]) -> Access:
    """The model's ``access``; without one only superusers have any right."""
    return getattr(model, "access", Access())


def is_auditor(user: Any) -> bool:
    return bool(user.is_active and user.has_perm(AUDITOR_PERMISSION))


def _grants(user: Any, action: str) -> models.QuerySet[Any]:
    """guardian's rows that give the user's teams ``action`` on clusters."""
    model = apps.get_model("clusters", "ClusterGroupObjectPermission")
    return model._default_manager.filter(
        group__in=user.groups.values("pk"), permission__codename=f"{action}_cluster"
    )


def namespaces_of(user: Any) -> models.QuerySet[Any]:
    """The grants of namespaces that the user's teams have; see ``events.models``."""
    model = apps.get_model("events", "NamespaceGrant")
    return model._default_manager.filter(team__in=user.groups.values("pk"))


def allowed(user: Any, access: Access, action: str) -> Q | None:
    """The condition under which ``user`` may do ``action`` on rows with ``access``.

    ``None`` means: on no row at all.  An empty ``Q()`` means: on all of them.
    """
    if isinstance(user, AnonymousUser) or not user.is_active:
        return None
    if _sees_all(user, action):
        return Q()
    if action == VIEW and access.everyone:
        return Q()
    if action == VIEW and access.view_permission and user.has_perm(access.view_permission):
        return Q()
    conditions: list[Q] = []
    needed = access.view_needs if action == VIEW else action
    if access.cluster is not None:
        clusters = _grants(user, needed).values("content_object")
        lookup = f"{access.cluster}__in" if access.cluster else "pk__in"
        conditions.append(Q(**{lookup: clusters}))
        if access.namespace and action == VIEW:
            place = {"cluster": OuterRef(access.cluster), "namespace": OuterRef(access.namespace)}
            conditions.append(Q(Exists(namespaces_of(user).filter(**place))))
    if access.team is not None:
        # A team has on its own unassigned machines the rights it was granted on any cluster;
        # seeing them needs membership alone.
        teams = user.groups.values("pk")
        if action != VIEW:
            teams = _grants(user, action).values("group")
        own = Q(**{f"{access.team}__in": teams})
        if access.cluster:
            own &= Q(**{f"{access.cluster}__isnull": True})
        conditions.append(own)
    if access.owner is not None:
        conditions.append(_owned(user, access, access.owner, action))
    if not conditions:
        return None
    combined = conditions[0]
    for condition in conditions[1:]:
        combined |= condition
    return combined


def _owned(user: Any, access: Access, owner: str, action: str) -> Q:
    own = Q(**{owner: user.pk})
    if access.shared and action == VIEW:
        own |= Q(**{access.shared: True})
    if access.cluster:
        own &= Q(**{f"{access.cluster}__isnull": True})
    if access.owner_needs and not _sees_all(user, access.owner_needs):
        needed = Q(Exists(_grants(user, access.owner_needs)))
        if access.namespace == "":
            needed |= Q(Exists(namespaces_of(user)))
        own &= needed
    return own


def _sees_all(user: Any, action: str) -> bool:
    return bool(user.is_superuser) or (action == VIEW and is_auditor(user))


def visible_to(
    user: Any, queryset: models.QuerySet[Row], action: str = VIEW
) -> models.QuerySet[Row]:
    """The rows of ``queryset`` on which ``user`` may do ``action``."""
    condition = allowed(user, access_of(queryset.model), action)
    if condition is None:
        return queryset.none()
    return queryset.filter(condition) if condition else queryset


def may(user: Any, obj: models.Model, action: str = VIEW) -> bool:
    """Whether ``user`` may do ``action`` on this one row."""
    condition = allowed(user, access_of(type(obj)), action)
    if condition is None:
        return False
    if not condition:
        return True
    return type(obj)._default_manager.filter(condition, pk=obj.pk).exists()


def granting_teams(user: Any, obj: models.Model, action: str) -> models.QuerySet[Any]:
    """The teams of ``user`` whose role on the row's cluster includes ``action``."""
    cluster = access_of(type(obj)).cluster
    if cluster is None:
        return Group.objects.none()
    key = type(obj)._default_manager.filter(pk=obj.pk).values(cluster or "pk")
    grants = _grants(user, action).filter(content_object__in=key)
    return Group.objects.filter(pk__in=grants.values("group"))


def may_anywhere(user: Any, model: type[models.Model], action: str = VIEW) -> bool:
    """Whether there can be rows on which ``user`` may do ``action``; no promise that one exists."""
    access = access_of(model)
    condition = allowed(user, access, action)
    if condition is None:
        return False
    if not condition or (access.owner is not None and not access.owner_needs):
        return True
    if access.owner_needs and _sees_all(user, access.owner_needs):
        return True
    if action == VIEW and access.team is not None:
        # Only teams are granted anything: whoever has a grant is in one, which need not be asked.
        is_granted = any(user.__dict__.get("_may_anywhere", {}).values())
        return is_granted or _remembered(user, "team", lambda: {"team": user.groups.exists()})
    needed = access.owner_needs or (access.view_needs if action == VIEW else action)
    if _remembered(user, needed, lambda: _granted_anywhere(user)):
        return True
    if access.namespace is None or (access.namespace and action != VIEW):
        return False
    granted = namespaces_of(user)
    return _remembered(user, "namespace", lambda: {"namespace": granted.exists()})


def _granted_anywhere(user: Any) -> dict[str, bool]:
    """Of every action whether some cluster grants it; a page asks for more than one."""
    granted = {f"may_{action}": Exists(_grants(user, action)) for action in ACTIONS}
    person = get_user_model()._default_manager.filter(pk=user.pk)
    row = person.values(**granted).first() or {}  # removed meanwhile: nothing is granted any more
    return {action: bool(row.get(f"may_{action}")) for action in ACTIONS}


def _remembered(user: Any, what: str, ask: Callable[[], Mapping[str, bool]]) -> bool:
    """Ask once per user object: a page asks the same for every entry of its navigation, and each
    request loads its user anew, so that nothing is remembered beyond it."""
    answers: dict[str, bool] = user.__dict__.setdefault("_may_anywhere", {})
    if what not in answers:
        answers.update(ask())
    return answers[what]


def teams_of(user: Any) -> models.QuerySet[Any]:
    """The teams a person may make the owner of what they add."""
    return Group.objects.all() if user.is_superuser else user.groups.all()


def require(user: Any, obj: models.Model, action: str) -> None:
    """Raise ``Forbidden`` unless ``user`` may do ``action`` on ``obj``."""
    if not may(user, obj, action):
        context.note_refusal(obj)
        raise Forbidden(
            gettext(
                "You may see %(kind)s %(name)s, but your roles do not include the right "
                "“%(right)s”; ask an owner of the cluster for a role with it."
            )
            % {"kind": obj._meta.verbose_name, "name": obj, "right": ACTION_LABELS[action]}
        )
