"""Operations, their steps, attempts and output: the whole state of the engine is in these rows.

Work lists are rows too: a step has to be done for the machines whose ``MachineStep`` of that step
is WAITING.  Retry sets failed ones back to WAITING, skip sets them to SKIPPED; nothing else is
needed to go on from the middle.  Every write of a running step carries its attempt number, so that
a worker that lost its lease can no longer write (fencing).
"""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField, SentencesField
from beidou.base.state import Stateful, StatusChange
from clusters.models import Cluster
from machines.models import Machine, SshCredential


class ClusterSettings(models.Model):
    """What operations need to know about a cluster beyond its API: sign-in, artifacts, site
    settings."""

    access = Access(cluster="cluster")

    cluster = models.OneToOneField(
        Cluster,
        on_delete=models.CASCADE,
        related_name="operation_settings",
        verbose_name=_("cluster"),
    )
    credential = models.ForeignKey(
        SshCredential,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("SSH credential"),
        help_text=_("For machines that have none of their own."),
    )
    artifact_source = models.CharField(
        _("artifact source"),
        max_length=500,
        blank=True,
        help_text=_("http(s) address or folder with kubernetes/VERSION/ARCH/ and SHA256SUMS."),
    )
    overrides = models.JSONField(
        _("playbook variables"),
        default=dict,
        blank=True,
        help_text=_("Variables of our roles that this site sets differently."),
    )
    policy = models.JSONField(
        _("preCheck policy"),
        default=dict,
        blank=True,
        help_text=_("What differs from the default policy: least CPU, memory, disk per path …"),
    )
    limit = models.PositiveSmallIntegerField(
        _("operations at once"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text=_(
            "Operations that may change this cluster at the same time; empty: the default."
        ),
    )
    time_zone = models.CharField(
        _("time zone"),
        max_length=64,
        blank=True,
        help_text=_("Of its maintenance windows, as Europe/Berlin; empty: that of the portal."),
    )
    history = HistoricalRecords()

    class Meta:
        verbose_name = _("operation settings")
        verbose_name_plural = _("operation settings")

    def __str__(self) -> str:
        return f"operation settings of {self.cluster}"


class MaintenanceWindow(models.Model):
    """Some hours of the week; a cluster that has any is changed within them alone."""

    access = Access(cluster="cluster")

    class Weekday(models.TextChoices):
        MONDAY = "mon", _("Monday")
        TUESDAY = "tue", _("Tuesday")
        WEDNESDAY = "wed", _("Wednesday")
        THURSDAY = "thu", _("Thursday")
        FRIDAY = "fri", _("Friday")
        SATURDAY = "sat", _("Saturday")
        SUNDAY = "sun", _("Sunday")

    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.CASCADE,
        related_name="maintenance_windows",
        verbose_name=_("cluster"),
    )
    weekdays = models.JSONField(_("weekdays"), help_text=_("On which it begins."))
    start = models.TimeField(
        _("begins"), help_text=_("In the time zone of the cluster's operation settings.")
    )
    minutes = models.PositiveSmallIntegerField(
        _("lasts, minutes"),
        validators=[MinValueValidator(5), MaxValueValidator(7 * 24 * 60)],
        help_text=_("It may last over midnight; 10080 is a week."),
    )
    comment = models.CharField(_("comment"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("maintenance window")
        verbose_name_plural = _("maintenance windows")
        ordering = ["cluster__name", "pk"]

    def __str__(self) -> str:
        days = ", ".join(str(self.Weekday(day).label) for day in self.weekdays)
        return f"{self.cluster}: {days} {self.start:%H:%M}"


class Freeze(models.Model):
    """A time in which no change of these clusters may begin: of one, of those with a label, or of
    all."""

    access = Access(cluster="cluster")

    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="freezes",
        verbose_name=_("cluster"),
        help_text=_("Neither cluster nor label: the whole fleet."),
    )
    label = models.CharField(
        _("cluster label"),
        max_length=130,
        blank=True,
        help_text=_("key=value; instead of a cluster: every cluster that carries this label."),
    )
    begins_at = models.DateTimeField(_("begins"), default=timezone.now)
    ends_at = models.DateTimeField(
        _("ends"), null=True, blank=True, help_text=_("Empty: when somebody ends it.")
    )
    reason = models.CharField(
        _("reason"), max_length=150, help_text=_("Told to everybody whom it makes wait.")
    )

    class Meta:
        verbose_name = _("freeze")
        verbose_name_plural = _("freezes")
        ordering = ["-begins_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                name="freeze_ends_after_it_begins",
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=models.F("begins_at")),
                violation_error_message=_("It ends before it begins."),
            ),
            models.CheckConstraint(
                name="freeze_of_a_cluster_or_of_a_label",
                condition=Q(cluster__isnull=True) | Q(label=""),
                violation_error_message=_("Name either a cluster or a label."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.target}: {self.reason}"

    @property
    def target(self) -> str:
        return str(self.cluster) if self.cluster else self.label or gettext("the fleet")


class TeamLimit(models.Model):
    """How many operations of one team may run at once; other teams have the default."""

    access = Access()

    team = models.OneToOneField(
        Group, on_delete=models.CASCADE, related_name="operation_limit", verbose_name=_("team")
    )
    limit = models.PositiveSmallIntegerField(
        _("operations at once"),
        validators=[MinValueValidator(1), MaxValueValidator(200)],
        help_text=_("Operations of this team that may run at the same time, on all clusters."),
    )

    class Meta:
        verbose_name = _("limit of a team")
        verbose_name_plural = _("limits of teams")
        ordering = ["team__name"]

    def __str__(self) -> str:
        return f"{self.team}: {self.limit}"


class Operation(Stateful):
    """One asked-for change or check on one cluster.

    WAITING -> RUNNING | CANCELED
    RUNNING -> PAUSED | CANCELING | SUCCEEDED | PARTIAL | FAILED
    PAUSED -> RUNNING | WAITING | CANCELING       (waiting: for a window, or the end of a freeze)
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
        Status.PAUSED: frozenset({Status.RUNNING, Status.WAITING, Status.CANCELING}),
        Status.CANCELING: frozenset({Status.CANCELED}),
        Status.PARTIAL: frozenset({Status.WAITING}),
        Status.FAILED: frozenset({Status.WAITING}),
        Status.CANCELED: frozenset({Status.WAITING}),
        Status.SUCCEEDED: frozenset(),
    }
    ACTIVE = frozenset({Status.WAITING, Status.RUNNING, Status.PAUSED, Status.CANCELING})
    ENDED_BADLY = frozenset({Status.PARTIAL, Status.FAILED, Status.CANCELED})

    class Priority(models.TextChoices):
        LOW = "low", _("Low")
        NORMAL = "normal", _("Normal")
        HIGH = "high", _("High")

    # What it gives back at its end.
    NO_SLOTS: ClassVar[dict[str, None]] = {"slot": None, "team_slot": None, "place": None}

    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=40, db_index=True)
    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="operations", verbose_name=_("cluster")
    )
    params = models.JSONField(_("parameters"), default=dict, blank=True)
    answers = models.JSONField(
        _("answers"),
        default=dict,
        blank=True,
        help_text=_("Parameters that were chosen otherwise with a retry."),
    )
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
    max_failed_percent = models.PositiveSmallIntegerField(
        _("stop when more than this share of the machines failed, %"),
        default=100,
        validators=[MaxValueValidator(100)],
    )
    forks = models.PositiveSmallIntegerField(
        _("machines at once"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(200)],
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING, db_index=True
    )
    message = SentenceField(_("message"), limit=500, blank=True)
    waiting_for = SentenceField(_("waits for"), limit=300, blank=True)
    waiting_since = models.DateTimeField(_("waits for this since"), null=True, editable=False)
    # When a window or the end of a freeze lets it begin, as far as that is known.
    waiting_until = models.DateTimeField(_("waits until"), null=True, editable=False)
    team = models.ForeignKey(
        Group,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("team"),
        help_text=_("The team it counts for."),
    )
    priority = models.CharField(
        _("priority"), max_length=6, choices=Priority.choices, default=Priority.NORMAL
    )
    mutating = models.BooleanField(_("changes something"), default=True, editable=False)
    # Numbers below the limits of its cluster, of its team, and of all.
    slot = models.PositiveSmallIntegerField(null=True, editable=False)
    team_slot = models.PositiveSmallIntegerField(null=True, editable=False)
    place = models.PositiveSmallIntegerField(null=True, editable=False)
    # Since when it waits: a retry queues it anew.
    queued_at = models.DateTimeField(_("queued"), default=timezone.now, editable=False)
    # Since when nothing but limits keeps it; None while a window or a freeze does.
    ready_at = models.DateTimeField(default=timezone.now, null=True, editable=False)
    began_at = models.DateTimeField(null=True, editable=False)  # had its turn the last time
    # Who let it begin in spite of windows and freezes; it holds until it is queued anew.
    glass_broken_at = models.DateTimeField(null=True, editable=False)
    glass_broken_by = models.CharField(max_length=150, blank=True, editable=False)
    glass_reason = models.CharField(max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("asked"), default=timezone.now, db_index=True)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering = ["-id"]
        constraints = [
            # The limit per cluster: a running operation that changes something holds one of N
            # slots.
            models.UniqueConstraint(
                fields=["cluster", "slot"],
                condition=Q(slot__isnull=False),
                name="one_operation_per_slot",
            ),
            models.UniqueConstraint(
                fields=["team", "team_slot"],
                condition=Q(team_slot__isnull=False),
                name="one_operation_per_team_slot",
            ),
            models.UniqueConstraint(
                fields=["place"],
                condition=Q(place__isnull=False),
                name="one_operation_per_place",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=Q(status="waiting"), name="operations_waiting"),
            models.Index(fields=["cluster", "status"]),
            models.Index(
                fields=["team", "began_at"],
                condition=Q(began_at__isnull=False),
                name="operations_turns",
            ),
            models.Index(
                fields=["glass_broken_at"],
                condition=Q(glass_broken_at__isnull=False),
                name="operations_broken_glass",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.status in self.ACTIVE

    def is_asked_by(self, user: Any) -> bool:
        """Whether they asked for it themselves or sent it in another's name, or want the task that
        it is a part of: then somebody else approves."""
        part = getattr(self, "task_part", None)
        wanting = part.step.task.askers if part is not None else set()
        return user.pk in {self.requested_by_id, self.sent_by_id, *wanting}

    @property
    def to_come(self) -> models.QuerySet[Machine]:
        """Machines of its task that go the same way in other batches, before it or behind it."""
        part = getattr(self, "task_part", None)
        return part.to_come() if part is not None else Machine.objects.none()

    @property
    def is_held(self) -> bool:
        """A window or a freeze keeps it from beginning."""
        return self.status == self.Status.WAITING and self.ready_at is None


class OperationStatusChange(StatusChange):
    """A change of an operation's status."""

    access = Access(cluster="subject__cluster")
    subject = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="status_changes")


class OperationMachine(models.Model):
    """One machine's part in an operation; names are kept as they were when it was asked for."""

    access = Access(cluster="operation__cluster")

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELED = "canceled", _("Canceled")

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(
        Machine, on_delete=models.SET_NULL, null=True, related_name="operations"
    )
    address = models.CharField(_("address"), max_length=45)
    hostname = models.CharField(_("hostname"), max_length=253, blank=True)
    role = models.CharField(_("role"), max_length=63, default="Compute")
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.WAITING
    )
    message = SentenceField(_("message"), blank=True)
    holds_machine = models.BooleanField(
        default=False, help_text=_("A change is going on: no other may begin on this machine.")
    )
    # Nothing is done with it until it is retried itself, and how it ended counts against no limit.
    left_out = models.BooleanField(default=False, editable=False)

    class Meta:
        verbose_name = _("machine of an operation")
        verbose_name_plural = _("machines of operations")
        ordering = ["operation", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["operation", "machine"], name="a_machine_once_per_operation"
            ),
            models.UniqueConstraint(
                fields=["machine"],
                condition=Q(holds_machine=True),
                name="one_change_per_machine",
            ),
        ]

    def __str__(self) -> str:
        return self.hostname or self.address


class Step(Stateful):
    """One stage of an operation.

    WAITING -> RUNNING | SKIPPED | CANCELED
    RUNNING -> SUCCEEDED | PARTIAL | FAILED | CANCELED | WAITING     (waiting again: the worker was
    lost) SUCCEEDED, PARTIAL, FAILED, CANCELED, SKIPPED -> WAITING        (retry) PARTIAL, FAILED,
    CANCELED -> SUCCEEDED | SKIPPED | PARTIAL       (the last failed machine was skipped)
    """

    access = Access(cluster="operation__cluster")

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        PARTIAL = "partial", _("Partly failed")
        FAILED = "failed", _("Failed")
        SKIPPED = "skipped", _("Skipped")
        CANCELED = "canceled", _("Canceled")

    _AGAIN = frozenset({Status.WAITING})
    _MENDED = frozenset({Status.SUCCEEDED, Status.SKIPPED, Status.PARTIAL})
    TRANSITIONS = {
        Status.WAITING: frozenset({Status.RUNNING, Status.SKIPPED, Status.CANCELED}),
        Status.RUNNING: frozenset(
            {Status.SUCCEEDED, Status.PARTIAL, Status.FAILED, Status.CANCELED, Status.WAITING}
        ),
        Status.SUCCEEDED: _AGAIN,
        Status.PARTIAL: _AGAIN | _MENDED,
        Status.FAILED: _AGAIN | _MENDED,
        Status.CANCELED: _AGAIN | _MENDED,
        Status.SKIPPED: _AGAIN,
    }

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField(_("position"))
    name = models.CharField(_("name"), max_length=40)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING
    )
    message = SentenceField(_("message"), blank=True)
    attempt = models.PositiveIntegerField(
        _("attempt"), default=0, help_text=_("Number of the newest attempt; the fencing token.")
    )
    holder = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True)
    losses = models.PositiveSmallIntegerField(
        default=0, help_text=_("How often in a row a worker was lost in this step.")
    )
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ["operation", "position"]
        constraints = [
            models.UniqueConstraint(fields=["operation", "position"], name="one_step_per_position"),
            models.UniqueConstraint(
                fields=["operation"],
                condition=Q(status="running"),
                name="one_running_step_per_operation",
            ),
        ]
        indexes = [
            models.Index(
                fields=["lease_until"], condition=Q(status="running"), name="operations_leases"
            )
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.name}"


class StepStatusChange(StatusChange):
    """A change of a step's status."""

    access = Access(cluster="subject__operation__cluster")
    subject = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="status_changes")


class MachineStep(models.Model):
    """One cell of the matrix machines × steps: what is to be done, how it went, and the proof."""

    access = Access(cluster="step__operation__cluster")

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        SKIPPED = "skipped", _("Skipped")
        CANCELED = "canceled", _("Canceled")

    PASSED = frozenset({Status.SUCCEEDED, Status.SKIPPED})

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="cells")
    machine = models.ForeignKey(OperationMachine, on_delete=models.CASCADE, related_name="cells")
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING
    )
    message = SentenceField(_("message"), blank=True)
    checks = SentencesField(
        _("checks"), default=list, help_text=_("check, ok, found, wanted, advice, severity")
    )
    evidence = SentencesField(_("evidence"), default=dict)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("step of a machine")
        verbose_name_plural = _("steps of machines")
        ordering = ["machine", "step"]
        constraints = [
            models.UniqueConstraint(
                fields=["step", "machine"], name="one_cell_per_machine_and_step"
            )
        ]

    def __str__(self) -> str:
        return f"{self.step} {self.machine}"


class Attempt(models.Model):
    """One run of one step; a retry, and a repetition after a lost worker, is a new one."""

    access = Access(cluster="step__operation__cluster")

    class Outcome(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        CANCELED = "canceled", _("Canceled")
        LOST = "lost", _("Worker lost")
        ERRORED = "errored", _("Error of the portal")

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField(_("number"))
    holder = models.CharField(_("worker"), max_length=120)
    machines = models.PositiveIntegerField(_("machines"), default=0)
    outcome = models.CharField(
        _("outcome"), max_length=10, choices=Outcome.choices, default=Outcome.RUNNING
    )
    message = SentenceField(_("message"), blank=True)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["step", "number"]
        constraints = [
            models.UniqueConstraint(fields=["step", "number"], name="one_attempt_per_number")
        ]

    def __str__(self) -> str:
        return f"{self.step} #{self.number}"


class OutputChunk(models.Model):
    """Many lines of an operation's output in one row.

    Lines of an operation are numbered from 1 without gaps; a chunk holds ``first``..``last``.
    ``lines`` is JSON text, one array ``[number, milliseconds, machine, level, text]`` per line of
    the text; when the attempt has ended its chunks are packed into ``packed`` (zlib) instead.  The
    unique ``first`` keeps a fenced-off worker out.
    """

    access = Access(cluster="operation__cluster")
    ORDER: ClassVar[str] = "first"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="output")
    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="output")
    first = models.PositiveBigIntegerField()
    last = models.PositiveBigIntegerField()
    lines = models.TextField(blank=True)
    packed = models.BinaryField(null=True)

    class Meta:
        verbose_name = _("output")
        verbose_name_plural = _("output")
        ordering = ["operation", "first"]
        constraints = [
            models.UniqueConstraint(fields=["operation", "first"], name="one_chunk_per_first_line")
        ]

    def __str__(self) -> str:
        return f"{self.operation_id}: {self.first}–{self.last}"


# The flows above operations are of this app, too; they know these models, which do not know them.
from operations.flows.library.models import (  # noqa: E402
    TaskTemplate as TaskTemplate,
)
from operations.flows.library.models import (  # noqa: E402
    TemplateVersion as TemplateVersion,
)
from operations.flows.models import (  # noqa: E402
    AutoOperationTask as AutoOperationTask,
)
from operations.flows.schedules.models import (  # noqa: E402
    TaskSchedule as TaskSchedule,
)
from operations.outside.models import (  # noqa: E402
    SiteRequest as SiteRequest,
)
from operations.outside.models import (  # noqa: E402
    SiteSystem as SiteSystem,
)
from operations.playbooks.models import (  # noqa: E402
    PlaybookRun as PlaybookRun,
)
from operations.playbooks.models import (  # noqa: E402
    PlaybookSource as PlaybookSource,
)
from operations.playbooks.models import (  # noqa: E402
    SitePlaybook as SitePlaybook,
)
from operations.playbooks.models import (  # noqa: E402
    SourceRevision as SourceRevision,
)
