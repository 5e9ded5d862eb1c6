"""*Needs you*: what does not go on, or will soon not, unless somebody does something.

One query per kind of trouble; each shows its first few cases and how many more there are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    Min,
    Model,
    OuterRef,
    Q,
    QuerySet,
    When,
    Window,
)
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base.display import BAD, WARNING
from beidou.base.models import AuditEntry, Notice
from beidou.base.permissions import APPROVE, visible_to
from beidou.overview.links import listing, page
from clusters.models import Cluster, Node
from clusters.services.expiry import SOON, expiring
from events.models import EventAlert
from machines.models import Drift, Machine
from operations.flows import approval, children
from operations.flows.models import AutoOperationTask, TaskStep, WorkOrder
from operations.models import Operation

Row = TypeVar("Row", bound=Model)

SHOWN = 3
FAILED_WITHIN = timedelta(hours=24)
BROKEN_WITHIN = timedelta(hours=24)
# The collector confirms every cluster four times a minute; longer silence means that none runs.
SILENT_AFTER = timedelta(minutes=2)
# A queued step starts within a second; what waits longer waits for something.
WAITING_AFTER = timedelta(seconds=30)


@dataclass(frozen=True)
class Need:
    """One thing that needs somebody.

    ``moment`` is since when it is so, for what expires when it ends.  ``count`` is above one for
    the line that stands for the rest of its kind.
    """

    kind: str
    tone: str
    text: str
    url: str
    detail: str = ""
    moment: datetime | None = None
    count: int = 1


def needs(user: Any) -> list[Need]:
    """All of them, the worst first."""
    now = timezone.now()
    kinds: tuple[Callable[[Any, datetime], Iterator[Need]], ...] = (
        _work_orders,
        _unwell_clusters,
        _event_alerts,
        _silence,
        _failed_operations,
        _tasks,
        _changed_host_keys,
        _expiring,
        _waiting_operations,
        _nodes_behind_broken_glass,
        _faulty_machines,
        _drift,
    )
    found = [need for kind in kinds for need in kind(user, now)]
    return sorted(found, key=lambda need: need.tone != BAD)


def _first(rows: QuerySet[Row]) -> tuple[list[Row], int]:
    """The first rows and the number of all, in one query."""
    found: list[Any] = list(rows.annotate(all_of_them=Window(Count("pk")))[:SHOWN])
    return found, found[0].all_of_them if found else 0


def _rest(kind: str, tone: str, shown: int, total: int, url: str) -> Iterator[Need]:
    left = total - shown
    if left > 0:
        text = ngettext("%(count)d more like this", "%(count)d more like these", left)
        yield Need(kind, tone, text % {"count": left}, url, count=left)


def _work_orders(user: Any, now: datetime) -> Iterator[Need]:
    """What waits for a decision that this person may make."""
    open_ones = WorkOrder.objects.filter(
        status=WorkOrder.Status.OPEN, step__task__status__in=AutoOperationTask.ACTIVE
    )
    rows, total = _first(
        visible_to(user, open_ones, APPROVE)
        .exclude(children.asked_by(user, "step__task"))
        .exclude(approval.answered_by(user, "step__task"))
        .filter(site_request=None)  # the others a ticket system decides
        .select_related("step__task__cluster")
        .order_by("asked_at")
    )
    for order in rows:
        task = order.step.task
        count = len(order.plan.get("machines", {}))
        told = ngettext(
            "%(cluster)s, %(count)d machine, asked by %(who)s",
            "%(cluster)s, %(count)d machines, asked by %(who)s",
            count,
        )
        yield Need(
            "work_order",
            WARNING,
            _("Approve: %(name)s") % {"name": task.name},
            page(task),
            told % {"cluster": task.cluster.name, "count": count, "who": task.acting_name},
            order.asked_at,
        )
    link = listing("operations.AutoOperationTask", status="active")
    yield from _rest("work_order", WARNING, len(rows), total, link)


def _unwell_clusters(user: Any, now: datetime) -> Iterator[Need]:
    bad = [Cluster.Health.UNREACHABLE, Cluster.Health.DEGRADED]
    rows, total = _first(
        visible_to(user, Cluster.objects.filter(health__in=bad)).order_by("-health", "health_since")
    )
    for cluster in rows:
        is_gone = cluster.health == Cluster.Health.UNREACHABLE
        sentence = _("%(name)s is unreachable") if is_gone else _("%(name)s is degraded")
        yield Need(
            cluster.health,
            BAD if is_gone else WARNING,
            sentence % {"name": cluster.name},
            page(cluster),
            cluster.health_reason,
            cluster.health_since,
        )
    link = listing("clusters.Cluster", health__in=",".join(bad))
    yield from _rest("unwell", WARNING, len(rows), total, link)


def _event_alerts(user: Any, now: datetime) -> Iterator[Need]:
    critical = Notice.Severity.CRITICAL
    rows, total = _first(
        visible_to(user, EventAlert.objects.filter(ended_at=None))
        .select_related("rule", "cluster")
        .order_by(Case(When(rule__severity=critical, then=0), default=1), "-began_at", "-pk")
    )
    for alert in rows:
        where = alert.cluster.name if alert.cluster is not None else ""
        yield Need(
            "event_alert",
            BAD if alert.rule.severity == critical else WARNING,
            _("Alert on events: %(name)s") % {"name": alert.rule.name},
            page(alert),
            ", ".join(filter(None, (alert.value, where))),
            alert.began_at,
        )
    link = listing("events.EventAlert", state="firing")
    yield from _rest("event_alert", WARNING, len(rows), total, link)


def _silence(user: Any, now: datetime) -> Iterator[Need]:
    """Clusters that nobody looks at: then no figure here is to be trusted."""
    limit = now - SILENT_AFTER
    watched = Cluster.objects.exclude(phase__in=Cluster.UNWATCHED)
    silent = visible_to(user, watched).filter(
        Q(checked_at__lt=limit) | Q(checked_at=None, created_at__lt=limit)
    )
    found = silent.aggregate(count=Count("pk"), since=Min("checked_at"))
    if found["count"]:
        sentence = ngettext(
            "%(count)d cluster is not being watched",
            "%(count)d clusters are not being watched",
            found["count"],
        )
        yield Need(
            "silent",
            BAD,
            sentence % {"count": found["count"]},
            listing("clusters.Cluster", checked_at__lt=limit.isoformat()),
            _("Is the collector running? Its figures are old."),
            found["since"],
            count=found["count"],
        )


def _failed_operations(user: Any, now: datetime) -> Iterator[Need]:
    failed = [Operation.Status.FAILED, Operation.Status.PARTIAL]
    since = now - FAILED_WITHIN
    rows, total = _first(
        visible_to(user, Operation.objects.filter(status__in=failed, finished_at__gte=since))
        .select_related("cluster")
        .order_by("-finished_at")
    )
    for operation in rows:
        is_partial = operation.status == Operation.Status.PARTIAL
        sentence = _("%(name)s failed in part") if is_partial else _("%(name)s failed")
        yield Need(
            "failed_operation",
            BAD,
            sentence % {"name": operation.name},
            page(operation),
            operation.message or str(operation.cluster),
            operation.finished_at,
        )
    link = listing(
        "operations.Operation", status__in=",".join(failed), finished_at__gte=since.isoformat()
    )
    yield from _rest("failed_operation", BAD, len(rows), total, link)


def _tasks(user: Any, now: datetime) -> Iterator[Need]:
    """One-click tasks that failed, perhaps with no operation that did, paused ones, and those whose
    operation asks something."""
    failed = Q(
        status__in=[AutoOperationTask.Status.FAILED, AutoOperationTask.Status.PARTIAL],
        finished_at__gte=now - FAILED_WITHIN,
    )
    paused = Q(status=AutoOperationTask.Status.PAUSED)
    asked = TaskStep.objects.filter(
        task=OuterRef("pk"), status=TaskStep.Status.RUNNING, progress__has_key="asks"
    )
    asking = Q(Exists(asked), status=AutoOperationTask.Status.RUNNING)
    newest = F("finished_at").desc(nulls_last=True)
    rows, total = _first(
        visible_to(user, AutoOperationTask.objects.filter(failed | paused | asking))
        .select_related("cluster")
        .order_by(newest, "pk")
    )
    sentences = {
        AutoOperationTask.Status.FAILED: _("%(name)s failed"),
        AutoOperationTask.Status.PARTIAL: _("%(name)s failed in part"),
        AutoOperationTask.Status.PAUSED: _("%(name)s is paused"),
        AutoOperationTask.Status.RUNNING: _("%(name)s waits"),
    }
    kinds = {
        AutoOperationTask.Status.PAUSED: "paused_task",
        AutoOperationTask.Status.RUNNING: "asking_task",
    }
    for task in rows:
        status = AutoOperationTask.Status(task.status)
        yield Need(
            kinds.get(status, "failed_task"),
            WARNING if status in kinds else BAD,
            sentences[status] % {"name": task.name},
            page(task),
            task.waiting_for or task.message or str(task.cluster),
            (task.started_at or task.created_at) if status in kinds else task.finished_at,
        )
    # No single filter of the list says all of them, hence the list of all.
    link = listing("operations.AutoOperationTask")
    yield from _rest("failed_task", BAD, len(rows), total, link)


def _changed_host_keys(user: Any, now: datetime) -> Iterator[Need]:
    changed = Machine.objects.exclude(offered_host_key="")
    rows, total = _first(visible_to(user, changed).order_by("pk"))
    for machine in rows:
        yield Need(
            "changed_host_key",
            BAD,
            _("%(machine)s shows another host key") % {"machine": machine},
            page(machine),
            _("Nothing runs on it until the key is accepted or rejected."),
        )
    link = listing("machines.Machine", offered_host_key__gt="")
    yield from _rest("changed_host_key", BAD, len(rows), total, link)


def _expiring(user: Any, now: datetime) -> Iterator[Need]:
    rows, total = _first(visible_to(user, expiring()))
    limit = now + SOON
    sentences = (
        ("expiring_credential", "credential_expires_at", _("Credential of %(name)s expires")),
        (
            "expiring_certificate",
            "server_certificate_expires_at",
            _("API server certificate of %(name)s expires"),
        ),
    )
    for cluster in rows:
        for kind, field, sentence in sentences:
            moment = getattr(cluster, field)
            if moment and moment <= limit:
                tone = BAD if moment <= now + timedelta(days=3) else WARNING
                text = sentence % {"name": cluster.name}
                yield Need(kind, tone, text, page(cluster), moment=moment)
    # No single column of the list says both, hence the list of all.
    yield from _rest("expiring", WARNING, len(rows), total, listing("clusters.Cluster"))


def _waiting_operations(user: Any, now: datetime) -> Iterator[Need]:
    """What does not go on by itself, and before it what somebody let begin in spite of windows and
    freezes: rare, and worth a look.  What waits for its window needs nobody."""
    since = now - BROKEN_WITHIN
    stuck = Q(status=Operation.Status.PAUSED) | Q(
        status=Operation.Status.WAITING, created_at__lt=now - WAITING_AFTER, waiting_until=None
    )
    wanted = Operation.objects.filter(stuck | Q(glass_broken_at__gte=since))
    newest_broken = F("glass_broken_at").desc(nulls_last=True)
    rows, total = _first(
        visible_to(user, wanted).select_related("cluster").order_by(newest_broken, "pk")
    )
    for operation in rows:
        if operation.glass_broken_at is not None and operation.glass_broken_at >= since:
            yield _broken_glass(operation)
            continue
        is_paused = operation.status == Operation.Status.PAUSED
        sentence = _("%(name)s is paused") if is_paused else _("%(name)s waits")
        yield Need(
            "waiting_operation",
            WARNING,
            sentence % {"name": operation.name},
            page(operation),
            operation.waiting_for or operation.message or str(operation.cluster),
            operation.started_at or operation.created_at,
        )
    link = listing("operations.Operation", status__in="waiting,paused")
    yield from _rest("waiting_operation", WARNING, len(rows), total, link)


def _broken_glass(operation: Operation) -> Need:
    return Need(
        "broken_glass",
        WARNING,
        _("%(who)s let %(name)s begin in spite of windows and freezes")
        % {"who": operation.glass_broken_by, "name": operation.name},
        page(operation),
        operation.glass_reason,
        operation.glass_broken_at,
    )


def _nodes_behind_broken_glass(user: Any, now: datetime) -> Iterator[Need]:
    """Nodes cordoned or opened by hand in spite of windows and freezes.  No operation keeps that:
    it is known from the audit trail, also where the cluster refused it then."""
    broken = AuditEntry.objects.filter(
        verb="break glass",
        object_type=Node._meta.label_lower,
        at__gte=now - BROKEN_WITHIN,
        # Not who may see the trail: it is told to whom an operation's would be.
        cluster_id__in=visible_to(user, Cluster.objects.all()).values("pk"),
    )
    rows, total = _first(broken.order_by("-at", "-pk"))
    nodes = Node.objects.in_bulk([int(entry.object_id) for entry in rows]) if rows else {}
    for entry in rows:
        is_cordon = entry.after.get("to") == "cordon"
        sentence = (
            _("%(who)s asked to cordon %(node)s in spite of windows and freezes")
            if is_cordon
            else _("%(who)s asked to uncordon %(node)s in spite of windows and freezes")
        )
        node = nodes.get(int(entry.object_id))
        yield Need(
            "broken_glass",
            WARNING,
            sentence % {"who": entry.actor, "node": entry.object_name},
            page(node) if node is not None else "",
            entry.reason,
            entry.at,
        )
    # The trail has the rest, which not everybody may see.
    yield from _rest("broken_glass", WARNING, len(rows), total, "")


def _faulty_machines(user: Any, now: datetime) -> Iterator[Need]:
    faulty = Machine.objects.filter(state=Machine.State.FAULTY)
    rows, total = _first(visible_to(user, faulty).order_by("-state_since"))
    for machine in rows:
        yield Need(
            "faulty_machine",
            WARNING,
            _("%(machine)s is faulty") % {"machine": machine},
            page(machine),
            moment=machine.state_since,
        )
    link = listing("machines.Machine", state__exact=Machine.State.FAULTY)
    yield from _rest("faulty_machine", WARNING, len(rows), total, link)


def _drift(user: Any, now: datetime) -> Iterator[Need]:
    """All drift in one line: it is judged in its list, by many at once.  What a retired machine
    was like needs nobody any more."""
    open_ones = Drift.objects.filter(verdict=Drift.Verdict.OPEN)
    wanted = open_ones.exclude(machine__state=Machine.State.RETIRED)
    found = visible_to(user, wanted).aggregate(
        count=Count("pk"), machines=Count("machine", distinct=True), since=Min("first_seen")
    )
    if found["count"]:
        sentence = ngettext(
            "%(machines)d machine differs from what was intended",
            "%(machines)d machines differ from what was intended",
            found["machines"],
        )
        yield Need(
            "drift",
            WARNING,
            sentence % found,
            listing("machines.Drift", verdict__exact=Drift.Verdict.OPEN)
            or listing("machines.Machine"),
            ngettext(
                "%(count)d difference to accept or mark as wrong",
                "%(count)d differences to accept or mark as wrong",
                found["count"],
            )
            % found,
            found["since"],
            count=found["count"],
        )
