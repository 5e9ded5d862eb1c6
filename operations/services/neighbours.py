"""What the apps below ask of operations through their registries: a machine's timeline and buttons,
why a machine or a cluster must be left alone, or kept, now, and what goes with a cluster."""

from collections import Counter
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base import display, permissions
from beidou.base.page_head.buttons import Button
from beidou.base.page_head.lines import Line
from beidou.base.sentences import Sentence
from clusters.models import Cluster, Node
from machines.models import Machine
from machines.timeline import Entry
from operations.kinds.base import KINDS, Kind
from operations.kinds.health import changes, last
from operations.models import ClusterSettings, Operation, OperationMachine
from operations.services import calendars

NAMED_AT_MOST = 3
EVERYDAY = ("ScaleUp", "ScaleDown", "HealthCheck", "RunPlaybook", "UncordonNodes", "CleanUp")


def timeline_entries(machine: Machine, user: Any, limit: int) -> Iterable[Entry]:
    """Operations in which the machine takes or took part, as far as ``user`` may see them."""
    visible = permissions.visible_to(user, Operation.objects.all())
    members = OperationMachine.objects.filter(machine=machine, operation__in=visible)
    for member in members.select_related("operation").order_by("-operation_id")[:limit]:
        yield from _story(member)


def _story(member: OperationMachine) -> Iterable[Entry]:
    """The beginning and, once it has come, the end; what was done with the machine happened in
    between, from the moment at which the operation was asked for."""
    operation = member.operation
    url = reverse("admin:operations_operation_change", args=[operation.pk])
    outcome = f"{operation.name}: {member.get_state_display()}"
    ended_at = None if operation.is_active else operation.finished_at
    yield Entry(
        at=operation.created_at,
        kind="operation",
        title=_("%(name)s was asked for") % {"name": operation.name} if ended_at else outcome,
        actor=operation.requested_by_name,
        reason=operation.reason if ended_at else member.message or operation.reason,
        url=url,
    )
    if ended_at:
        yield Entry(
            at=ended_at,
            kind="operation",
            title=outcome,
            reason=member.message,
            url=url,
        )


def buttons_of_machine(machine: Machine, user: Any) -> Iterable[Button]:
    """The kinds that can begin from the machine's state; while an operation holds it, that one and
    the kinds that hold none."""
    holding = _holding(machine)
    if holding is not None and permissions.may(user, holding):
        url = reverse("admin:operations_operation_change", args=[holding.pk])
        yield Button(label=holding.name, url=url, icon="play_circle")
    for kind in _offered(machine, user):
        if holding is not None and kind.mutating and kind.holds:
            continue
        if kind.whole_cluster and machine.cluster_id is None:
            continue
        if machine.state in kind.startable_states and kind.concerns(machine):
            query = {"kind": kind.name, "machines": str(machine.address)}
            if machine.cluster_id:
                query["cluster"] = str(machine.cluster_id)
            yield _button(kind, query)


def buttons_of_cluster(cluster: Cluster, user: Any) -> Iterable[Button]:
    """The kinds that can begin where the cluster is in its life."""
    for kind in _offered(cluster, user):
        if cluster.phase in kind.phases:
            yield _button(kind, {"kind": kind.name, "cluster": str(cluster.pk)})


def _offered(row: Machine | Cluster, user: Any) -> list[Kind]:
    """The kinds that ``user`` may begin with it, the everyday ones first.

    A kind that makes a cluster has a page of its own, where its cluster is described.
    """
    may = cache(lambda right: permissions.may(user, row, right))
    kinds = [
        kind
        for kind in KINDS.values()
        if not kind.makes_cluster and kind.is_offered(user) and may(kind.permission)
    ]
    places = {name: place for place, name in enumerate(EVERYDAY)}
    return sorted(kinds, key=lambda kind: (places.get(kind.name, len(places)), str(kind.title)))


def _button(kind: Kind, query: dict[str, str]) -> Button:
    url = f"{reverse('operations:start')}?{urlencode(query)}"
    return Button(str(kind.title), url, kind.icon, is_everyday=kind.name in EVERYDAY)


def last_health_check(machine: Machine, user: Any) -> Iterable[Line]:
    """The verdict of the newest HealthCheck that ``user`` may see, and the way to it."""
    visible = permissions.visible_to(user, Operation.objects.all())
    cell = (
        last.cells(visible)
        .filter(machine__machine=machine)
        .select_related("step")
        .order_by("-pk")
        .first()
    )
    if cell is None:
        return
    levels = Counter(changes.level(each) for each in cell.checks)
    if levels["error"]:
        text = ngettext("%(count)d error", "%(count)d errors", levels["error"])
        shown = display.badge(text % {"count": levels["error"]}, display.BAD)
    elif levels["warning"]:
        text = ngettext("%(count)d warning", "%(count)d warnings", levels["warning"])
        shown = display.badge(text % {"count": levels["warning"]}, display.WARNING)
    else:
        shown = display.badge(_("in order"), display.GOOD)
    url = reverse("admin:operations_operation_change", args=[cell.step.operation_id])
    yield Line(
        label=_("Health check"),
        shown=format_html("{} {}", shown, display.ago(cell.finished_at)),
        url=f"{url}#results",
    )


def calendar_of_cluster(cluster: Cluster, user: Any) -> Iterable[Line]:
    """When changes may begin, and the way to where that is said; nothing where it always is so."""
    calendar = calendars.calendar_of(cluster)
    now = timezone.now()
    which = "freeze" if calendar.frozen(now) else "maintenancewindow"
    url = f"{reverse(f'admin:operations_{which}_changelist')}?cluster={cluster.pk}"
    hold = calendar.hold(now)
    if hold is not None:
        text = _("wait for %(what)s") % {"what": hold.sentence}
        shown = display.badge(text, display.WARNING, icon="event_busy")
        when = display.ago(hold.opens_at) if hold.opens_at else ""
        yield Line(_("Changes"), format_html("{} {}", shown, when), url)
    elif (span := calendar.next_window(now)) is not None:
        text = _("may begin, in the window %(window)s") % {"window": calendar.shown(span)}
        yield Line(_("Changes"), display.badge(text, display.GOOD, icon="event_available"), url)
    elif permissions.may(user, cluster, permissions.CHANGE):
        yield Line(_("Changes"), _("may begin at any time"), url)


def last_health_check_of_node(node: Node, user: Any) -> Iterable[Line]:
    machine = getattr(node, "machine", None)
    return last_health_check(machine, user) if machine is not None else ()


def why_machine_is_held(machine: Machine) -> str | None:
    holding = _holding(machine)
    if holding is None:
        return None
    return _("Operation %(name)s is working on %(machine)s.") % {
        "name": holding.name,
        "machine": machine,
    }


def why_node_stays_closed(node: Node) -> str | None:
    """An operation opens the nodes of its machines itself, once they are proven, or means to take
    them away.  A node that has just joined is linked to its machine later: its name tells."""
    holding = OperationMachine.objects.filter(operation__cluster=node.cluster, holds_machine=True)
    member = (
        holding.filter(
            Q(machine__node=node)
            | Q(hostname__iexact=node.name)
            | Q(hostname="", address=node.name)
        )
        .select_related("operation")
        .first()
    )
    if member is None:
        return None
    return _("Operation %(name)s is working on %(node)s and says itself when it is opened.") % {
        "name": member.operation.name,
        "node": node.name,
    }


def what_changes_wait_for(cluster: Cluster) -> Sentence | None:
    """Cordoning by hand is no operation, and minds windows and freezes as they do."""
    hold = calendars.hold_of(cluster)
    return hold.sentence if hold is not None else None


def why_machines_stay(keys: Collection[int]) -> list[str]:
    """Machines of operations that have not ended, also of such as only look at them."""
    members = OperationMachine.objects.filter(
        machine__in=keys, operation__status__in=Operation.ACTIVE
    )
    return [
        _("%(machine)s cannot be deleted while operation %(name)s works on it.")
        % {"machine": member.machine, "name": member.operation.name}
        for member in members.select_related("machine", "operation").order_by(
            "machine__address_key"
        )
    ]


def _holding(machine: Machine) -> Operation | None:
    if machine.pk is None:
        return None
    return Operation.objects.filter(machines__machine=machine, machines__holds_machine=True).first()


def why_cluster_is_held(cluster: Cluster) -> list[str]:
    active = Operation.objects.filter(cluster=cluster, status__in=Operation.ACTIVE)
    names = list(active.order_by("pk").values_list("name", flat=True)[:NAMED_AT_MOST])
    if names:
        return [
            _("Operations are active on the cluster: %(names)s. Let them end, or cancel them.")
            % {"names": ", ".join(names)}
        ]
    return _what_was_left(cluster) if cluster.is_unmade or cluster.is_deleted else []


def _what_was_left(cluster: Cluster) -> list[str]:
    """Machines of a creation that ended half way, or that a deletion gave up, can be cleaned up
    only as long as their cluster is known."""
    count = Machine.objects.filter(cluster=cluster).count()
    if not count:
        return []
    return [
        ngettext(
            "Clean up %(count)d machine first: it holds what is left of the cluster.",
            "Clean up %(count)d machines first: they hold what is left of the cluster.",
            count,
        )
        % {"count": count}
    ]


def what_goes_with_cluster(cluster: Cluster) -> list[str]:
    """Operations are about a cluster and go with it; said before, so that output can be saved."""
    count = Operation.objects.filter(cluster=cluster).count()
    if not count:
        return []
    return [
        ngettext(
            "%(count)d operation is removed with its steps and output; download what you need.",
            "%(count)d operations are removed with their steps and output; download what you need.",
            count,
        )
        % {"count": count}
    ]


def sweep_after_cluster(key: int) -> None:
    """The cascade took the settings, and wrote one version more."""
    ClusterSettings.history.filter(cluster_id=key).delete()
