"""What the pages of clusters, nodes, machines and operations say of their events.

None of them waits for the event store: what it must be asked for comes after the page, except on
the timeline of a machine, which waits for it a moment and then says that its part is missing.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base.page_head.lines import Line
from beidou.base.page_head.parts import Part
from clusters.models import Cluster, Node
from events.drivers import patience
from events.services import asked, search
from events.services.search import FoundEvent, Query, StoreAway
from machines.models import Machine
from machines.timeline import Entry
from operations.models import Operation, OperationMachine

TIMELINE_SECONDS = 2.0
TIMELINE_DAYS = 30
TIMELINE_READ, TIMELINE_MOST = 100, 20
AGAIN_SECONDS = 30


def of_cluster(cluster: Cluster, user: Any) -> Iterable[Line]:
    """Whoever sees the cluster sees its events."""
    if cluster.is_watched:
        yield _line(has_warnings=True, cluster=cluster.pk)


def of_node(node: Node, user: Any) -> Iterable[Line]:
    yield _line(has_warnings=True, cluster=node.cluster_id, node=node.name)


def of_machine(machine: Machine, user: Any) -> Iterable[Line]:
    """Those of its node; a machine with a cluster is seen by those alone who see the cluster."""
    if machine.cluster_id is not None and machine.node is not None:
        yield _line(has_warnings=False, cluster=machine.cluster_id, node=machine.node.name)


def _line(*, has_warnings: bool, **chosen: object) -> Line:
    given = urlencode(chosen)
    return Line(
        label=_("Events"),
        shown=_("Last 24 hours"),
        url=f"{reverse('admin:events_event_changelist')}?{given}",
        later=f"{reverse('admin:events_event_warnings')}?{given}" if has_warnings else "",
        trouble=_("(how many warnings is not known now)"),
    )


def timeline_entries(machine: Machine, user: Any, limit: int) -> Iterable[Entry]:
    """The newest warnings of its node; few, and what is alike folded, so that what people
    did does not drown in them."""
    if machine.cluster_id is None or machine.node is None:
        return []
    now = timezone.now()
    query = Query.of(
        since=now - timedelta(days=TIMELINE_DAYS),
        clusters=(machine.cluster_id,),
        node=(machine.node.name,),
        type=(search.WARNING,),
    )
    try:
        with patience.of(TIMELINE_SECONDS):
            found = search.page(user, query, limit=TIMELINE_READ)
    except StoreAway as error:
        title = _("The events of its node are missing here")
        return [Entry(at=now, kind="event", title=title, reason=error.message)]
    alike: dict[tuple[str, str, str, str], list[FoundEvent]] = {}
    for event in found.rows:
        what = (event.reason, event.kind, event.namespace, event.name)
        alike.setdefault(what, []).append(event)
    return [_entry(events) for events in list(alike.values())[: min(limit, TIMELINE_MOST)]]


def _entry(events: list[FoundEvent]) -> Entry:
    """The newest of those that say the same, with how often it was said."""
    event, times = events[0], sum(each.count for each in events)
    count = f" ×{times}" if times > 1 else ""
    return Entry(
        at=event.last_seen,
        kind="event",
        title=f"{event}{count}",
        reason=event.message,
        url=reverse("admin:events_event_change", args=[event.pk]),
    )


def of_operation(operation: Operation, user: Any) -> Iterable[Part]:
    """What happened on its nodes from its beginning to its end; of very many nodes, an address does
    not hold the names, and it is what happened on the cluster."""
    if operation.started_at is None:
        return
    nodes = _nodes(operation)
    given: dict[str, object] = {"cluster": operation.cluster_id}
    title = _("Events of the cluster while it ran")
    if 0 < len(nodes) <= asked.VALUES_MAX:
        given["node"] = nodes
        title = _("Events of its nodes while it ran")
    given["since"] = operation.started_at.isoformat()
    if not operation.is_active and operation.finished_at is not None:
        given["until"] = operation.finished_at.isoformat()
        given[asked.DURING] = 1  # what has not ended until now is what matters most
    address = urlencode(given, doseq=True)
    yield Part(
        title=title,
        url=f"{reverse('admin:events_event_newest')}?{address}",
        link=f"{reverse('admin:events_event_changelist')}?{address}",
        trouble=_("The portal does not answer: the events could not be read."),
        every_seconds=AGAIN_SECONDS if operation.is_active else 0,
    )


def _nodes(operation: Operation) -> list[str]:
    members = operation.machines.select_related("machine__node")
    return sorted({_node(member, operation.cluster_id) for member in members})


def _node(member: OperationMachine, cluster: int) -> str:
    """A machine that is not linked yet, or no more, was a node under its hostname."""
    node = member.machine.node if member.machine is not None else None
    if node is not None and node.cluster_id == cluster:
        return node.name
    return member.hostname.lower() or member.address
