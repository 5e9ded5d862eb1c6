"""From one state of a task to the next.

``advance`` may be called at any time, by anybody, any number of times: it holds the task's row,
looks at what is there, and does what follows from it in one transaction.  It is woken by the end of
an operation, a decision, a person's word, and by the sweeper for what is due or was forgotten.
"""

from collections.abc import Collection
from functools import cached_property
from typing import Any

import structlog
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from beidou.base import audit, context
from beidou.base.sentences import Sentence, joined
from beidou.base.state import change_status
from beidou.base.tasks import CLOCK, enqueue_on_commit
from operations.flows import approval, base, catalog, children, graph, news, undoing
from operations.flows.models import (
    AutoOperationTask,
    TaskMachine,
    TaskPart,
    TaskStep,
    WorkOrder,
)
from operations.models import Operation

logger = structlog.get_logger(__name__)
Status = TaskStep.Status
TaskStatus = AutoOperationTask.Status


def wake(task_id: int) -> None:
    """Let the task be looked at when the surrounding transaction commits."""
    enqueue_on_commit("operations.tasks.advance", task_id, queue=CLOCK)


def advance(task_id: int) -> None:
    """Do whatever follows from how things stand now."""
    found = AutoOperationTask.objects.select_related("carried_by", "requested_by")
    task = found.filter(pk=task_id).first()
    if task is None or not task.is_active:
        return
    user = task.acting_user
    with (
        context.acting(
            actor_id=user.pk if user else None,
            actor_name=task.acting_name or "system",
            address="",
            request_id=f"task-{task.pk}",
        ),
        structlog.contextvars.bound_contextvars(task=task.pk),
        audit.entries_last(),
    ):
        locked = (
            AutoOperationTask.objects.select_for_update(of=("self",))
            .select_related("cluster", "carried_by", "requested_by", "parent__task")
            .get(pk=task.pk)
        )
        if locked.is_active:
            Advance(locked).go_on()


def sweep() -> int:
    """Advance every task for which something is due, or of whose news the queue lost the word."""
    count = 0
    for key in _due():
        try:
            advance(key)
            count += 1
        except Exception:
            logger.exception("task_not_advanced", task=key)
    return count


def _due() -> list[int]:
    """In one query: not begun, with nothing running, a time that has come, an ended operation."""
    running = TaskStep.objects.filter(task=OuterRef("pk"), status=Status.RUNNING)
    parts = TaskPart.objects.filter(
        step__task=OuterRef("pk"), step__status=Status.RUNNING, operation__isnull=False
    )
    asking = WorkOrder.objects.filter(step=OuterRef("pk"), status=WorkOrder.Status.OPEN)
    decided = running.filter(~Exists(asking), kind="workOrder")
    news = (
        Q(status=TaskStatus.WAITING)
        | ~Exists(running)
        | Exists(running.filter(due_at__lte=timezone.now()))
        | Exists(parts.exclude(operation__status__in=Operation.ACTIVE))
        | Exists(decided)
        # They ask each other for approvals and pauses; the word of it may have been lost.
        | Exists(running.filter(kind="task"))
    )
    active = AutoOperationTask.objects.filter(status__in=AutoOperationTask.ACTIVE)
    rows = active.exclude(status=TaskStatus.PAUSED).filter(news)
    return list(rows.order_by("pk").values_list("pk", flat=True))


class Advance:
    """One look at a task whose row is held; what its steps see of it (``base.Flow``)."""

    def __init__(self, task: AutoOperationTask) -> None:
        self.task = task
        self.now = timezone.now()
        self.steps = list(task.steps.order_by("position"))
        self.by_key = {step.key: step for step in self.steps}
        for step in self.steps:
            step.task = task

    @property
    def may_begin(self) -> bool:
        return self.task.status == TaskStatus.RUNNING and not self._is_held

    @cached_property
    def _is_held(self) -> bool:
        return children.is_held(self.task)

    @property
    def has_stopped(self) -> bool:
        return graph.has_stopped(self.steps)

    def go_on(self) -> None:
        if self.task.status == TaskStatus.WAITING:
            change_status(
                self.task,
                to=TaskStatus.RUNNING,
                fields={
                    "started_at": self.task.started_at or self.now,
                    "finished_at": None,
                    "message": "",
                },
            )
        self._look()
        if self.has_stopped and self.task.status != TaskStatus.CANCELING:
            self._stop()
        # Each round begins a step; more rounds than that would go round in a circle.
        for _round in range(3 * len(self.steps)):
            self._call_again()
            following = self._ready() if self.may_begin else []
            if not following:
                break
            for step in following:
                self._begin(step)
            self._look()
        self._settle()
        if children.is_stopped_above(self.task):
            self._wake_above()

    def _ready(self) -> list[TaskStep]:
        return graph.ready(self.steps, self._half_done())

    def _half_done(self) -> Collection[str]:
        return self.task.failed_in if self.has_stopped else ()

    def _call_again(self) -> None:
        """What has undone something undoes it for the machines that have failed since, too."""
        done = (Status.SUCCEEDED, Status.FAILED, Status.SKIPPED)
        undoing_steps = [each for each in self.steps if each.compensates and each.status in done]
        if not undoing_steps or self.task.status == TaskStatus.CANCELING:
            return
        stopped, half_done = self.has_stopped, self._half_done()
        for step in undoing_steps:
            if not graph.is_called(step, self.by_key, stopped, half_done):
                continue
            if not undoing.is_called_again(self, step):
                continue
            step.progress = {**step.progress, "has_failed": step.status == Status.FAILED}
            change_status(
                step,
                to=Status.WAITING,
                reason=Sentence("Machines have failed since."),
                fields={"progress": step.progress, "message": "", "finished_at": None},
            )

    def _stop(self) -> None:
        """Nothing further begins, in those either that were looked at before this was known; what
        waits in the queue is taken out, for a retry."""
        running = [step for step in self.steps if step.status == Status.RUNNING]
        children.take_back(running, children.STOPPED)
        self._look()

    # --- steps --------------------------------------------------------------------------------

    def _begin(self, step: TaskStep) -> None:
        change_status(
            step,
            to=Status.RUNNING,
            fields={"started_at": self.now, "finished_at": None, "message": "", "due_at": None},
        )
        kind = base.get(step.kind)
        kind.begin(self, step, base.parse_params(kind, step.params))

    def _look(self) -> None:
        for step in self.steps:
            if step.status != Status.RUNNING:
                continue
            kind = base.get(step.kind)
            params = base.parse_params(kind, step.params)
            if self.task.status == TaskStatus.CANCELING:
                kind.cancel(self, step, params)
            else:
                kind.look(self, step, params)

    def finish(self, step: TaskStep, status: TaskStep.Status, message: str = "") -> None:
        change_status(
            step,
            to=status,
            reason=message,
            fields={"finished_at": self.now, "message": message, "due_at": None},
        )

    def machines(self, group: str = "") -> list[TaskMachine]:
        rows = self.task.machines.filter(state=TaskMachine.State.WAITING)
        if group:
            rows = rows.filter(group=group)
        return list(rows.select_related("machine").order_by("pk"))

    def fail_machine(self, member: TaskMachine, step: TaskStep, message: str) -> None:
        member.state = TaskMachine.State.FAILED
        member.failed_in = step.key
        member.message = message
        member.save(update_fields=["state", "failed_in", "message"])

    def is_approved(self, step: TaskStep) -> bool:
        if not children.is_approved_above(self.task):
            sentence = Sentence("Waits for an approval of what has changed.")
            if step.message != sentence:
                step.message = sentence
                step.save(update_fields=["message"])
                self._wake_above()
            return False
        if self.task.parent_id is not None and step.message:
            step.message = ""
            step.save(update_fields=["message"])
        asked = [each for each in graph.before(step, self.by_key) if each.kind == "workOrder"]
        if not asked:
            return True
        plan = approval.plan_of(self.task, self.machines())
        # One that was withdrawn asks already.
        again = any(each.status in (Status.WAITING, Status.RUNNING) for each in asked)
        orders = WorkOrder.objects.filter(step__in=asked, status=WorkOrder.Status.APPROVED)
        for order in orders.select_related("step"):
            why = approval.changes(order, plan, self.task)
            if not why:
                continue
            again = True
            approval.end_order(order, why)
            sentence = Sentence("What was approved has changed; it asks again.")
            change_status(
                self.by_key[order.step.key],
                to=Status.WAITING,
                reason=sentence,
                fields={"message": sentence, "finished_at": None},
            )
        if again:
            sentence = Sentence("Waits for an approval of what has changed.")
            children.take_back([step], sentence)
            change_status(step, to=Status.WAITING, reason=sentence, fields={"message": sentence})
        return not again

    # --- the task -----------------------------------------------------------------------------

    def _settle(self) -> None:
        """The end of the task when nothing runs and nothing follows; else what it waits for."""
        if any(step.status == Status.RUNNING for step in self.steps):
            self._say_what_it_waits_for()
            return
        if self.task.status == TaskStatus.CANCELING:
            for step in self.steps:
                if step.status == Status.WAITING:
                    self.finish(step, Status.CANCELED, Sentence("Canceled."))
            self._end(TaskStatus.CANCELED, _who_canceled(self.task))
            return
        if self._ready() and not self.may_begin:
            return  # paused, here or above
        if self.task.status == TaskStatus.PAUSED:
            change_status(
                self.task, to=TaskStatus.RUNNING, reason=Sentence("Nothing left to pause.")
            )
        self._end(*self._result())

    def _result(self) -> tuple[TaskStatus, str]:
        bad = [step for step in self.steps if step.status in TaskStep.UNDONE]
        if graph.has_stopped(self.steps):
            first = self._stopped_by()
            return TaskStatus.FAILED, Sentence(
                "%(step)s failed: %(message)s", step=catalog.title_of(first), message=first.message
            )
        for step in self.steps:
            if step.status == Status.WAITING:
                self.finish(step, Status.SKIPPED, Sentence("Not needed."))
        failed = self.task.machines.filter(state=TaskMachine.State.FAILED).count()
        if failed:
            total = self.task.machines.count()
            sentence = Sentence(
                "%(failed)s of %(total)s machines failed.", failed=failed, total=total
            )
            partly = (step for step in self.steps if step.status == Status.PARTIAL)
            names = [name for step in partly for name in step.progress.get("unanswered", [])]
            return TaskStatus.PARTIAL, joined(filter(None, (sentence, news.unanswered(names))))
        if bad:
            return TaskStatus.PARTIAL, bad[0].message
        return TaskStatus.SUCCEEDED, ""

    def _end(self, status: TaskStatus, message: str) -> None:
        if status in (TaskStatus.SUCCEEDED, TaskStatus.PARTIAL):
            self.task.machines.filter(state=TaskMachine.State.WAITING).update(
                state=TaskMachine.State.SUCCEEDED
            )
        self.task.machines.update(holds_machine=False)
        self._forget_answers()
        change_status(
            self.task,
            to=status,
            reason=message,
            fields={"finished_at": self.now, "message": message, "waiting_for": ""},
        )
        children.end_what_is_left(self.task)
        for child in children.of(self.task):
            wake(child.pk)
        self._wake_above()
        if self.task.parent_id is None:
            news.tell_end(self.task)
        about: dict[str, Any] = {"reason": message, "after": {"message": message}}
        if (order := self._rejection(status)) is not None:
            # Nothing failed: who rejected it has ended it.
            with context.acting(actor_id=order.decided_by_id, actor_name=order.decided_by_name):
                audit.record("task rejected", self.task, **about)
            return
        done = status in (TaskStatus.SUCCEEDED, TaskStatus.CANCELED)
        audit.record(f"task {status}", self.task, outcome="done" if done else "failed", **about)

    def _forget_answers(self) -> None:
        """Those of a retry that has not come to them; what is answered from now on is for the next
        one."""
        for step in self.steps:
            if step.progress.get("answers"):
                step.progress = approval.without_answers(step.progress)
                step.save(update_fields=["progress"])

    def _rejection(self, status: TaskStatus) -> WorkOrder | None:
        """The order that ended the task, if somebody rejected one."""
        if status != TaskStatus.FAILED:
            return None
        step = self._stopped_by()
        if step.kind != "workOrder" or step.status != Status.FAILED:
            return None
        last = step.orders.order_by("number").last()
        return last if last is not None and last.status == WorkOrder.Status.REJECTED else None

    def _stopped_by(self) -> TaskStep:
        return next(
            step
            for step in self.steps
            if step.status in TaskStep.UNDONE
            and step.status != Status.PARTIAL
            and step.on_failure != TaskStep.OnFailure.CONTINUE
        )

    def _wake_above(self) -> None:
        if self.task.parent is not None:
            wake(self.task.parent.task_id)

    def _say_what_it_waits_for(self) -> None:
        waits = self._waiting_for()
        if waits != self.task.waiting_for:
            self.task.waiting_for = waits
            AutoOperationTask.objects.filter(pk=self.task.pk).update(waiting_for=waits)
            self._wake_above()

    def _waiting_for(self) -> str:
        asking = [
            step
            for step in self.steps
            if step.status == Status.RUNNING and step.kind == "workOrder"
        ]
        if asking:
            title = catalog.title_of(asking[0])
            if asking[0].params.get("ticket"):
                return Sentence("a ticket: %(step)s", step=title)
            return Sentence("an approval: %(step)s", step=title)
        for step in self.steps:
            if step.status == Status.RUNNING and (asked := step.progress.get("asks")):
                title = catalog.title_of(step)
                if asked["is_approval"]:
                    return Sentence("an approval: %(step)s", step=title)
                return Sentence("an answer: %(step)s", step=title)
        has_tasks = any(
            step.kind == "task" and step.status == Status.RUNNING for step in self.steps
        )
        for child in children.of(self.task) if has_tasks else ():
            if child.waiting_for:
                return Sentence("%(task)s: %(what)s", task=child.name, what=child.waiting_for)
        return ""


def _who_canceled(task: AutoOperationTask) -> str:
    asked = task.status_changes.filter(new=TaskStatus.CANCELING).last()
    if asked is None:
        return Sentence("Canceled by request.")
    if not asked.reason:
        return Sentence("Canceled by %(who)s.", who=asked.actor)
    return Sentence("Canceled by %(who)s: %(reason)s", who=asked.actor, reason=asked.reason)
