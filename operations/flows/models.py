"""AutoOperationTasks: the whole state of a flow is in these rows.

A task keeps the graph that it was begun with: its steps are rows, made once.  What is still to do
is data here too: a step that is WAITING and whose needs have passed begins, an operation of it is a
``TaskPart``, and machines that have failed somewhere take part in nothing more until a retry.
"""

from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField, SentencesField
from beidou.base.state import Stateful, StatusChange
from clusters.models import Cluster
from machines.models import Machine
from operations.models import Operation


class AutoOperationTask(Stateful):
    """An ordered flow of operations, approvals and waits under one name.

    WAITING -> RUNNING | CANCELED
    RUNNING -> PAUSED | CANCELING | SUCCEEDED | PARTIAL | FAILED
    PAUSED -> RUNNING | CANCELING
    CANCELING -> CANCELED
    PARTIAL, FAILED, CANCELED -> WAITING          (retry, skip)
    """

    access = Access(cluster="cluster")

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        PAUSED = "paused", _("Paused")
        CANCELING = "canceling", _("Canceling")
        CANCELED = "canceled", _("Canceled")
        SUCCEEDED = "succeeded", _("Succeeded")
        PARTIAL = "partial", _("Partly failed")
        FAILED = "failed", _("Failed")

    TRANSITIONS = {
        Status.WAITING: frozenset({Status.RUNNING, Status.CANCELED}),
        Status.RUNNING: frozenset(
            {Status.PAUSED, Status.CANCELING, Status.SUCCEEDED, Status.PARTIAL, Status.FAILED}
        ),
        Status.PAUSED: frozenset({Status.RUNNING, Status.CANCELING}),
        Status.CANCELING: frozenset({Status.CANCELED}),
        Status.PARTIAL: frozenset({Status.WAITING}),
        Status.FAILED: frozenset({Status.WAITING}),
        Status.CANCELED: frozenset({Status.WAITING}),
        Status.SUCCEEDED: frozenset(),
    }
    ACTIVE = frozenset({Status.WAITING, Status.RUNNING, Status.PAUSED, Status.CANCELING})
    ENDED_BADLY = frozenset({Status.PARTIAL, Status.FAILED, Status.CANCELED})

    name = models.CharField(_("name"), max_length=100, unique=True)
    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="tasks", verbose_name=_("cluster")
    )
    template = models.CharField(_("template"), max_length=40, db_index=True)
    template_version = models.PositiveSmallIntegerField(_("version of the template"), default=1)
    params = models.JSONField(_("parameters"), default=dict, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("asked by"),
    )
    requested_by_name = models.CharField(_("asked by"), max_length=150, blank=True)
    # Whoever sent it, where that is somebody else: an administrator may ask in another's name.
    sent_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
    )
    # Whoever had it done again last: from then on it is done with their rights.
    carried_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    carried_by_name = models.CharField(_("carried on by"), max_length=150, blank=True)
    # Of a task that is a step of another, which holds the machines.
    parent = models.ForeignKey(
        "operations.TaskStep",
        on_delete=models.SET_NULL,
        null=True,
        related_name="children",
        verbose_name=_("step of"),
    )
    batch_size = models.PositiveIntegerField(
        _("machines per batch"), default=0, help_text=_("0: all of them at once.")
    )
    batch_pause = models.PositiveIntegerField(_("seconds between batches"), default=0)
    max_failed_percent = models.PositiveSmallIntegerField(
        _("stop when more than this share of the machines failed, %"),
        default=100,
        validators=[MaxValueValidator(100)],
    )
    priority = models.CharField(
        _("priority"),
        max_length=6,
        choices=Operation.Priority.choices,
        default=Operation.Priority.NORMAL,
        help_text=_("Of its operations."),
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING, db_index=True
    )
    message = SentenceField(_("message"), limit=500, blank=True)
    waiting_for = SentenceField(_("waits for"), limit=300, blank=True)
    created_at = models.DateTimeField(_("asked"), default=timezone.now, db_index=True)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        app_label = "operations"
        verbose_name = _("one-click task")
        verbose_name_plural = _("one-click tasks")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(status__in=["waiting", "running", "paused", "canceling"]),
                name="operations_tasks_active",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.status in self.ACTIVE

    @property
    def failed_in(self) -> set[str]:
        """Keys of the steps in which machines have failed."""
        rows = self.machines.filter(state=TaskMachine.State.FAILED)
        return set(rows.values_list("failed_in", flat=True))

    @property
    def askers(self) -> set[int]:
        """Keys of all who want it done, whom nobody lets approve it: who asked, who sent it in
        their name, who has it carried on; and all who want the task that it is a step of."""
        wanting = {self.requested_by_id, self.sent_by_id, self.carried_by_id}
        above = self.parent.task.askers if self.parent is not None else set()
        return {key for key in wanting if key is not None} | above

    @property
    def asker_names(self) -> set[str]:
        """Their names, for those who know nothing but names."""
        sender = self.sent_by.get_username() if self.sent_by is not None else ""
        names = {self.requested_by_name, self.carried_by_name, sender}
        above = self.parent.task.asker_names if self.parent is not None else set()
        return {name for name in names if name} | above

    @property
    def acting_user(self) -> Any:
        """With whose rights it is carried out; None when that person was removed."""
        return self.carried_by if self.carried_by_name else self.requested_by

    @property
    def acting_name(self) -> str:
        return self.carried_by_name or self.requested_by_name


class AutoOperationTaskStatusChange(StatusChange):
    """A change of a task's status."""

    access = Access(cluster="subject__cluster")
    subject = models.ForeignKey(
        AutoOperationTask, on_delete=models.CASCADE, related_name="status_changes"
    )

    class Meta(StatusChange.Meta):
        app_label = "operations"


class TaskMachine(models.Model):
    """One machine's part in a task; names are kept as they were when it was asked for."""

    access = Access(cluster="task__cluster")

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")

    class Group(models.TextChoices):
        """In a replacement; other tasks do the same with all of their machines."""

        NEW = "new", _("comes in")
        OLD = "old", _("goes out")

    task = models.ForeignKey(AutoOperationTask, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(Machine, on_delete=models.SET_NULL, null=True, related_name="tasks")
    address = models.CharField(_("address"), max_length=45)
    hostname = models.CharField(_("hostname"), max_length=253, blank=True)
    role = models.CharField(_("role"), max_length=63, blank=True)
    group = models.CharField(_("group"), max_length=3, choices=Group.choices, blank=True)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.WAITING
    )
    failed_in = models.CharField(_("failed in"), max_length=40, blank=True)
    message = SentenceField(_("message"), blank=True)
    holds_machine = models.BooleanField(
        default=True, help_text=_("No other task may begin with this machine.")
    )

    class Meta:
        app_label = "operations"
        verbose_name = _("machine of a task")
        verbose_name_plural = _("machines of tasks")
        ordering = ["task", "id"]
        constraints = [
            models.UniqueConstraint(fields=["task", "machine"], name="a_machine_once_per_task"),
            models.UniqueConstraint(
                fields=["machine"], condition=Q(holds_machine=True), name="one_task_per_machine"
            ),
        ]

    def __str__(self) -> str:
        return self.hostname or self.address


class TaskStep(Stateful):
    """One node of a task's graph.

    WAITING -> RUNNING | SKIPPED | CANCELED
    RUNNING -> SUCCEEDED | PARTIAL | FAILED | SKIPPED | CANCELED
    RUNNING -> WAITING                            (its approval does not hold any more)
    SUCCEEDED, PARTIAL, FAILED, CANCELED, SKIPPED -> WAITING     (retry; an approval asks again)
    PARTIAL, FAILED, CANCELED -> SKIPPED          (a person says so)
    """

    access = Access(cluster="task__cluster")

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        PARTIAL = "partial", _("Partly failed")
        FAILED = "failed", _("Failed")
        SKIPPED = "skipped", _("Skipped")
        CANCELED = "canceled", _("Canceled")

    class OnFailure(models.TextChoices):
        STOP = "stop", _("Stop")
        CONTINUE = "continue", _("Go on")
        COMPENSATE = "compensate", _("Compensate, then stop")

    _AGAIN = frozenset({Status.WAITING})
    _PASSED_OVER = frozenset({Status.WAITING, Status.SKIPPED})
    TRANSITIONS = {
        Status.WAITING: frozenset({Status.RUNNING, Status.SKIPPED, Status.CANCELED}),
        Status.RUNNING: frozenset(
            {
                Status.SUCCEEDED,
                Status.PARTIAL,
                Status.FAILED,
                Status.SKIPPED,
                Status.CANCELED,
                Status.WAITING,
            }
        ),
        Status.SUCCEEDED: _AGAIN,
        Status.PARTIAL: _PASSED_OVER,
        Status.FAILED: _PASSED_OVER,
        Status.CANCELED: _PASSED_OVER,
        Status.SKIPPED: _AGAIN,
    }
    PASSED = frozenset({Status.SUCCEEDED, Status.PARTIAL, Status.SKIPPED})
    UNDONE = frozenset({Status.PARTIAL, Status.FAILED, Status.CANCELED})

    task = models.ForeignKey(AutoOperationTask, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField(_("position"))
    key = models.CharField(_("key"), max_length=40)
    name = models.CharField(_("name"), max_length=40)
    kind = models.CharField(_("kind"), max_length=20)
    params = models.JSONField(_("parameters"), default=dict, blank=True)
    needs = models.JSONField(
        _("needs"), default=list, blank=True, help_text=_("Keys of the steps that come before.")
    )
    on_failure = models.CharField(
        _("when it fails"), max_length=10, choices=OnFailure.choices, default=OnFailure.STOP
    )
    compensates = models.JSONField(
        _("compensates"),
        default=list,
        blank=True,
        help_text=_("Keys of the steps after whose failure alone this one is done."),
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING
    )
    message = SentenceField(_("message"), blank=True)
    progress = models.JSONField(
        default=dict, blank=True, help_text=_("What its kind has to remember while it runs.")
    )
    due_at = models.DateTimeField(_("due"), null=True)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        app_label = "operations"
        verbose_name = _("step of a task")
        verbose_name_plural = _("steps of tasks")
        ordering = ["task", "position"]
        constraints = [
            models.UniqueConstraint(fields=["task", "key"], name="one_step_per_key"),
            models.UniqueConstraint(fields=["task", "position"], name="one_task_step_per_position"),
        ]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(status="running"), name="operations_steps_due"
            )
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.key}"


class TaskStepStatusChange(StatusChange):
    """A change of the status of a task's step."""

    access = Access(cluster="subject__task__cluster")
    subject = models.ForeignKey(TaskStep, on_delete=models.CASCADE, related_name="status_changes")

    class Meta(StatusChange.Meta):
        app_label = "operations"


class TaskPart(models.Model):
    """One batch of an operation step: the machines, and the operation as soon as it has begun."""

    access = Access(cluster="step__task__cluster")

    step = models.ForeignKey(TaskStep, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField(_("number"))
    machines = models.JSONField(default=list, help_text=_("Keys of the task's machines."))
    operation = models.OneToOneField(
        "operations.Operation", on_delete=models.SET_NULL, null=True, related_name="task_part"
    )
    # The task was retried: its operation, which ended badly, is to be done again.
    is_to_be_retried = models.BooleanField(default=False, editable=False)

    class Meta:
        app_label = "operations"
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        ordering = ["step", "number"]
        constraints = [
            models.UniqueConstraint(fields=["step", "number"], name="one_part_per_number")
        ]

    def __str__(self) -> str:
        return f"{self.step} #{self.number}"

    def to_come(self) -> models.QuerySet[Machine]:
        """Those of the other batches of the step, but for what has failed; also what is through."""
        others = self.step.parts.exclude(pk=self.pk).values_list("machines", flat=True)
        rows = TaskMachine.objects.filter(pk__in=[key for keys in others for key in keys])
        if not self.step.compensates:
            rows = rows.filter(state=TaskMachine.State.WAITING)
        return Machine.objects.filter(pk__in=rows.values("machine"))


class WorkOrder(Stateful):
    """One question to whoever may approve: shall exactly this be done?

    ``plan`` is what the question is about, ``digest`` its hash.

    OPEN -> APPROVED | REJECTED | EXPIRED | CLOSED
    APPROVED -> WITHDRAWN | OUTDATED              (it asks again)
    """

    access = Access(cluster="step__task__cluster")

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")
        EXPIRED = "expired", _("Expired")
        CLOSED = "closed", _("Closed")
        WITHDRAWN = "withdrawn", _("Withdrawn")
        OUTDATED = "outdated", _("Outdated")

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        Status.OPEN: frozenset({Status.APPROVED, Status.REJECTED, Status.EXPIRED, Status.CLOSED}),
        Status.APPROVED: frozenset({Status.WITHDRAWN, Status.OUTDATED}),
        Status.REJECTED: frozenset(),
        Status.EXPIRED: frozenset(),
        Status.CLOSED: frozenset(),
        Status.WITHDRAWN: frozenset(),
        Status.OUTDATED: frozenset(),
    }
    VALID = frozenset({Status.OPEN, Status.APPROVED})

    step = models.ForeignKey(TaskStep, on_delete=models.CASCADE, related_name="orders")
    number = models.PositiveIntegerField(_("number"))
    plan = models.JSONField(_("plan"), default=dict)
    digest = models.CharField(_("digest"), max_length=64)
    changes = SentencesField(
        _("changes"), default=list, help_text=_("What differs from what was approved before.")
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.OPEN
    )
    asked_at = models.DateTimeField(_("asked"), default=timezone.now)
    due_at = models.DateTimeField(_("time limit"), null=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    decided_by_name = models.CharField(_("decided by"), max_length=150, blank=True)
    decided_at = models.DateTimeField(_("decided"), null=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)

    class Meta:
        app_label = "operations"
        verbose_name = _("work order")
        verbose_name_plural = _("work orders")
        ordering = ["step", "number"]
        constraints = [
            models.UniqueConstraint(fields=["step", "number"], name="one_order_per_number"),
            models.UniqueConstraint(
                fields=["step"],
                condition=Q(status__in=["open", "approved"]),
                name="one_valid_order_per_step",
            ),
        ]
        indexes = [
            models.Index(fields=["step"], condition=Q(status="open"), name="operations_orders_open")
        ]

    def __str__(self) -> str:
        return f"{self.step} #{self.number}"


class WorkOrderStatusChange(StatusChange):
    """A change of a work order's status."""

    access = Access(cluster="subject__step__task__cluster")
    subject = models.ForeignKey(WorkOrder, on_delete=models.CASCADE, related_name="status_changes")

    class Meta(StatusChange.Meta):
        app_label = "operations"
