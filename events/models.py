"""Kubernetes events in the database, the embedded store, and how each cluster's stream goes; what
people save to look for in them, and be told of.

Events are written by the collector in bulk, by SQL (see ``events.drivers.database``), and belong
to their cluster; rights follow it, and a team may be granted single namespaces of it.  People edit
how long they are kept, and have some brought back from the archive.
"""

import hashlib
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base.models import Notice
from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField
from clusters.models import Cluster


class Event(models.Model):
    """One Kubernetes event in its last state: a repeated one is one row with its count.

    On PostgreSQL the table is partitioned by ``day``; both databases have a full-text index over
    what it says (see the first migration).
    """

    access = Access(cluster="cluster", namespace="namespace")

    day = models.DateField(_("day"), help_text=_("When it began, by the cluster's clock, in UTC."))
    # No constraint: rows of a cluster that was un-adopted are removed afterwards, in portions.
    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
        verbose_name=_("cluster"),
    )
    uid = models.CharField(_("UID"), max_length=128)
    version = models.BigIntegerField(_("resource version"))
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"))
    count = models.PositiveIntegerField(_("count"))
    type = models.CharField(_("type"), max_length=32)
    reason = models.CharField(_("reason"), max_length=128)
    namespace = models.CharField(_("namespace"), max_length=253)
    kind = models.CharField(_("kind"), max_length=128)
    name = models.CharField(_("object"), max_length=253)
    object_uid = models.CharField(_("UID of the object"), max_length=128)
    node = models.CharField(_("node"), max_length=253)
    component = models.CharField(_("component"), max_length=253)
    message = models.TextField(_("message"))
    raw = models.BinaryField(_("whole object"), help_text=_("JSON, compressed by zlib."))

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-last_seen", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["cluster", "uid", "day"], name="event_once"),
        ]
        indexes = [
            models.Index(fields=["last_seen", "id"], name="event_newest"),
            # Figures are counted from it alone, without the rows.
            models.Index(
                fields=[
                    "cluster",
                    "last_seen",
                    "type",
                    "reason",
                    "namespace",
                    "kind",
                    "node",
                    "component",
                ],
                name="event_figures",
            ),
            models.Index(
                fields=["cluster", "name", "last_seen"],
                name="event_of_object",
            ),
            models.Index(
                fields=["node", "last_seen"],
                name="event_of_node",
                condition=~models.Q(node=""),
            ),
            # What is counted by reason is counted in the index alone.
            models.Index(
                fields=["reason", "last_seen", "first_seen", "cluster"],
                name="event_of_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} {self.kind} {self.name}".strip()


class NamespaceGrant(models.Model):
    """A team sees the events of one namespace of a cluster, and nothing else of it.

    Whoever has a role on the cluster sees all of it anyway.  Made and taken back, never changed;
    see ``services.namespaces``.
    """

    access = Access(cluster="cluster")

    team = models.ForeignKey(
        Group,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="namespace_grants",
        verbose_name=_("team"),
    )
    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="namespace_grants",
        verbose_name=_("cluster"),
    )
    namespace = models.CharField(_("namespace"), max_length=63)
    created_at = models.DateTimeField(_("granted"), auto_now_add=True)

    class Meta:
        verbose_name = _("grant of a namespace")
        verbose_name_plural = _("grants of namespaces")
        ordering = ["team__name", "cluster__name", "namespace"]
        constraints = [
            # Also how it is asked whether a team sees anything of a cluster, or one event of it.
            models.UniqueConstraint(
                fields=["team", "cluster", "namespace"], name="namespace_granted_once"
            ),
        ]
        indexes = [
            # Which teams see an event that is written.
            models.Index(fields=["cluster", "namespace", "team"], name="namespace_granted_to"),
        ]

    def __str__(self) -> str:
        return f"{self.team} · {self.cluster} · {self.namespace}"


class StaleLabel(models.Model):
    """Documents of a namespace may say otherwise of a team than the grants do: one was given or
    taken.  It goes when that is over; see ``services.relabelling``.

    By key and UID: it stays when the team is deleted, or the cluster is un-adopted.
    """

    access = Access()

    team_key = models.BigIntegerField()
    cluster_uid = models.CharField(max_length=64)
    namespace = models.CharField(max_length=63)
    changed_at = models.DateTimeField()
    looked_at = models.DateTimeField(null=True)
    held_until = models.DateTimeField(null=True)
    problem = SentenceField(limit=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team_key", "cluster_uid", "namespace"], name="stale_label_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.team_key} {self.cluster_uid} {self.namespace}"


class StoreOwner(models.Model):
    """By what an event store that others may use, too, knows this portal; one row."""

    access = Access()

    key = models.UUIDField(default=uuid.uuid4, editable=False)

    def __str__(self) -> str:
        return str(self.key)


class EventMove(models.Model):
    """How far the events of a cluster were moved from one store into another."""

    access = Access()

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=500)
    target = models.CharField(max_length=500)
    cursor = models.CharField(max_length=64, blank=True)
    moved = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0)
    began_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "source", "target"], name="event_move_once"),
        ]

    def __str__(self) -> str:
        return f"{self.cluster_id}: {self.source} → {self.target}"


class KnownReason(models.Model):
    """A reason that a cluster gives, and when it was first seen to; see ``services.reasons``."""

    access = Access(cluster="cluster")

    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="+", verbose_name=_("cluster")
    )
    reason = models.CharField(_("reason"), max_length=128)
    first_seen = models.DateTimeField(_("first seen"))

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "reason"], name="known_reason_once"),
        ]

    def __str__(self) -> str:
        return f"{self.cluster_id}: {self.reason}"


class ReasonsLearned(models.Model):
    """Up to when the events were looked at for reasons; one row."""

    until = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.until)


SILENT_AFTER = timedelta(minutes=1)
"""A living collector reports every few seconds."""


class EventStream(models.Model):
    """How the events of one cluster flow; written by the collector that holds the cluster."""

    access = Access(cluster="cluster")

    cluster = models.OneToOneField(
        Cluster,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="event_stream",
        verbose_name=_("cluster"),
    )
    position = models.CharField(
        _("position"),
        max_length=128,
        blank=True,
        help_text=_("Everything before it is in the event store."),
    )
    position_at = models.DateTimeField(_("position reached"), null=True)
    holder = models.CharField(_("collector"), max_length=120, blank=True)
    contact_at = models.DateTimeField(_("last contact"), null=True)
    problem = SentenceField(_("problem"), limit=500, blank=True)
    problem_since = models.DateTimeField(_("problem since"), null=True)
    heard = models.PositiveBigIntegerField(
        _("heard"), default=0, help_text=_("Events and updates of events read from the cluster.")
    )
    stored = models.PositiveBigIntegerField(
        _("stored"), default=0, help_text=_("Of these, taken by the event store.")
    )
    refused = models.PositiveBigIntegerField(
        _("refused"),
        default=0,
        help_text=_("Not taken by the event store, and never will be; see the collector's log."),
    )
    waiting = models.PositiveBigIntegerField(_("waiting in the spool"), default=0)
    waiting_bytes = models.PositiveBigIntegerField(_("size of the spool, bytes"), default=0)
    spool_percent = models.PositiveIntegerField(
        _("spool full, percent"),
        default=0,
        help_text=_("Of the room that its collector has for the events of all its clusters."),
    )
    lag_seconds = models.FloatField(
        _("lag, seconds"), default=0, help_text=_("How long the oldest that waits has waited.")
    )
    per_minute = models.FloatField(_("per minute"), default=0)
    last_event_at = models.DateTimeField(_("last event"), null=True)
    updated_at = models.DateTimeField(_("as of"), null=True)

    class Meta:
        verbose_name = _("event stream")
        verbose_name_plural = _("event streams")
        ordering = ["cluster__name"]

    def __str__(self) -> str:
        return self.cluster.name

    def is_silent(self, now: datetime) -> bool:
        """No collector reports: what it said last says nothing any more."""
        return self.updated_at is not None and now - self.updated_at > SILENT_AFTER


SEARCH_MAX = 4000
"""Characters of a search as an address says it: fifty long names are about as many."""


class SavedSearch(models.Model):
    """A search under a name.  Whoever opens it sees what he may see; the search holds no event."""

    access = Access(owner="owner", owner_needs="view", shared="shared", namespace="")

    name = models.CharField(_("name"), max_length=100)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        editable=False,
        verbose_name=_("owner"),
    )
    search = models.TextField(
        _("search"),
        max_length=SEARCH_MAX,
        blank=True,
        help_text=_("As the address of the event centre says it, behind the question mark."),
    )
    shared = models.BooleanField(
        _("shared"),
        default=False,
        help_text=_("Whoever may see the event centre finds it there, too; you alone change it."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("saved search")
        verbose_name_plural = _("saved searches")
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="saved_search_of_name"),
        ]

    def __str__(self) -> str:
        return self.name


THRESHOLD_MAX = 1_000_000
WINDOW_MAX = 24 * 60
"""Minutes: a day."""


class AlertRule(models.Model):
    """So many events within so many minutes are an alert.

    It sees what its owner may see, and nothing more; without an owner it stands still.
    """

    access = Access(owner="owner", owner_needs="view")

    class GroupBy(models.TextChoices):
        NOTHING = "", _("all of them together")
        CLUSTER = "cluster", _("cluster")
        NAMESPACE = "namespace", _("namespace of a cluster")
        NAME = "name", _("object of a cluster")
        REASON = "reason", _("reason on a cluster")
        NODE = "node", _("node of a cluster")

    name = models.CharField(_("name"), max_length=100, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("owner"),
    )
    owner_name = models.CharField(_("owner"), max_length=150, blank=True, editable=False)
    search = models.TextField(
        _("search"),
        max_length=SEARCH_MAX,
        blank=True,
        help_text=_(
            "As the address of the event centre says it, behind the question mark, without times; "
            "empty: every event."
        ),
    )
    threshold = models.PositiveIntegerField(
        _("at least … events"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(THRESHOLD_MAX)],
        help_text=_("One that repeats is one event, however often it repeats."),
    )
    window_minutes = models.PositiveIntegerField(
        _("within … minutes"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(WINDOW_MAX)],
        help_text=_("By when they were last seen; 1440 is a day."),
    )
    group_by = models.CharField(
        _("counted for each"),
        max_length=10,
        choices=GroupBy.choices,
        default=GroupBy.CLUSTER,
        blank=True,
        help_text=_("Each of them is an alert of its own."),
    )
    quiet_from = models.TimeField(
        _("quiet from"),
        null=True,
        blank=True,
        help_text=_("Then nobody is told; what still fires when the hours end is told then."),
    )
    quiet_to = models.TimeField(
        _("quiet to"),
        null=True,
        blank=True,
        help_text=_("In the portal's time zone; it may be after midnight."),
    )
    severity = models.CharField(
        _("severity"),
        max_length=8,
        choices=Notice.Severity.choices,
        default=Notice.Severity.WARNING,
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    looked_at = models.DateTimeField(_("last looked"), null=True, editable=False)
    counted_at = models.DateTimeField(null=True, editable=False)
    """Up to when windows were counted; None where the rule begins."""
    counted_as = models.CharField(max_length=64, blank=True, editable=False)
    """``meaning`` at that time: a rule that was changed begins anew."""
    problem = SentenceField(_("problem"), limit=500, blank=True, editable=False)
    problem_since = models.DateTimeField(_("problem since"), null=True, editable=False)

    class Meta:
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    threshold__range=(1, THRESHOLD_MAX), window_minutes__range=(1, WINDOW_MAX)
                ),
                name="alert_rule_in_bounds",
            ),
            models.CheckConstraint(
                condition=models.Q(quiet_from=None, quiet_to=None)
                | models.Q(quiet_from__isnull=False, quiet_to__isnull=False),
                name="alert_rule_quiet_from_and_to",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def window(self) -> timedelta:
        return timedelta(minutes=self.window_minutes)

    @property
    def meaning(self) -> str:
        """Stands for what is counted, and for whom."""
        fields = (self.owner_id, self.search, self.threshold, self.window_minutes, self.group_by)
        return hashlib.sha256(repr(fields).encode()).hexdigest()


class EventAlert(models.Model):
    """What an alert rule found, from when it began until it was over.

    FIRING -> OVER while fewer are found; OVER -> FIRING when that is within a window.  Past that it
    is another alert.  It is seen by whoever may see its cluster; one of several clusters together
    by the rule's owner.
    """

    access = Access(cluster="cluster", owner="rule__owner", owner_needs="view")

    rule = models.ForeignKey(
        AlertRule, on_delete=models.CASCADE, related_name="alerts", verbose_name=_("rule")
    )
    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.CASCADE,
        null=True,
        related_name="+",
        verbose_name=_("cluster"),
    )
    group_by = models.CharField(
        _("counted for each"), max_length=10, choices=AlertRule.GroupBy.choices, blank=True
    )
    value = models.CharField(_("value"), max_length=253, blank=True)
    search = models.TextField(_("search"), blank=True)
    since = models.DateTimeField(_("window since"))
    began_at = models.DateTimeField(_("began"))
    last_at = models.DateTimeField(_("last found"))
    ended_at = models.DateTimeField(_("over"), null=True)
    count = models.PositiveIntegerField(_("events now"))
    peak = models.PositiveIntegerField(_("peak"))
    told = models.PositiveSmallIntegerField(
        _("notifications"), default=0, help_text=_("None in quiet hours: it is stored only.")
    )

    class Meta:
        verbose_name = _("event alert")
        verbose_name_plural = _("event alerts")
        ordering = ["-began_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "group_by", "cluster", "value"],
                condition=models.Q(ended_at=None),
                name="event_alert_fires_once",
            ),
            models.UniqueConstraint(
                fields=["rule", "group_by", "value"],
                condition=models.Q(ended_at=None, cluster=None),
                name="event_alert_of_all_fires_once",
            ),
        ]
        indexes = [
            models.Index(fields=["rule", "ended_at"], name="event_alert_of_rule"),
            models.Index(fields=["-began_at", "-id"], name="event_alert_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.value}".strip()

    @property
    def is_firing(self) -> bool:
        return self.ended_at is None

    @property
    def told_apart(self) -> tuple[str, ...]:
        """What of the search is told by fields of the alert."""
        return () if self.cluster_id is None else ("cluster",)


DAYS_MAX = 3650
_DAYS = [MinValueValidator(1), MaxValueValidator(DAYS_MAX)]


class EventRetention(models.Model):
    """For how many days the events of a cluster are kept, where it is not as the portal says."""

    access = Access(cluster="cluster")

    cluster = models.OneToOneField(
        Cluster,
        on_delete=models.CASCADE,
        related_name="event_retention",
        verbose_name=_("cluster"),
    )
    days = models.PositiveSmallIntegerField(
        _("days"),
        null=True,
        blank=True,
        validators=_DAYS,
        help_text=_("From when an event was last seen; empty: as the portal's settings say."),
    )
    warning_days = models.PositiveSmallIntegerField(
        _("days for warnings"),
        null=True,
        blank=True,
        validators=_DAYS,
        help_text=_("For events of type Warning; empty: as the portal's settings say."),
    )

    class Meta:
        verbose_name = _("retention of events")
        verbose_name_plural = _("retention of events")
        ordering = ["cluster__name"]

    def __str__(self) -> str:
        return self.cluster.name


class EventSegment(models.Model):
    """Events of one cluster that were last seen on one day, as an object in the archive.

    A row is there only when the object is, and was read back as it was meant to be.
    """

    access = Access(cluster="cluster")

    class Part(models.TextChoices):
        ALL = "all", _("all")
        WARNINGS = "warnings", _("warnings")
        OTHERS = "others", _("all but warnings")

    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("cluster"),
        help_text=_("None where it was un-adopted since."),
    )
    cluster_uid = models.CharField(_("UID of the cluster"), max_length=64)
    cluster_name = models.CharField(_("name of the cluster"), max_length=253)
    day = models.DateField(_("day"), help_text=_("On which they were last seen, in UTC."))
    part = models.CharField(_("of these"), max_length=8, choices=Part.choices)
    number = models.PositiveIntegerField(_("number"))
    object_name = models.CharField(_("object"), max_length=500, unique=True)
    events = models.PositiveIntegerField(_("events"))
    bytes = models.PositiveBigIntegerField(_("size, bytes"))
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"))
    archived_at = models.DateTimeField(_("archived"), auto_now_add=True)
    removed_at = models.DateTimeField(
        _("removed from the event store"),
        null=True,
        help_text=_("None while its events are, or may be, in the event store, too."),
    )
    problem = SentenceField(_("problem"), limit=500, blank=True)

    class Meta:
        verbose_name = _("archived segment")
        verbose_name_plural = _("archive of events")
        ordering = ["-day", "cluster_name", "part", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster_uid", "day", "part", "number"], name="event_segment_once"
            ),
        ]

    def __str__(self) -> str:
        return self.object_name


class EventArchiving(models.Model):
    """How archiving goes, and which process is at it; one row."""

    holder = models.CharField(max_length=64, blank=True)
    held_until = models.DateTimeField(null=True)
    writing = models.CharField(max_length=500, blank=True)
    reached = models.CharField(max_length=253, blank=True)
    """The cluster at which a run stopped; the next begins behind it."""
    ran_at = models.DateTimeField(null=True)
    problem = SentenceField(limit=500, blank=True)
    problem_since = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.holder


class EventForgetting(models.Model):
    """Until when a worker may be deleting what is past its time; one row."""

    held_until = models.DateTimeField(null=True)
    behind_since = models.DateTimeField(null=True)
    """Since then no run has come through to the end of what is past its time."""

    def __str__(self) -> str:
        return str(self.held_until)


class EventRestore(models.Model):
    """Days of a cluster that were brought back from the archive, and until when they stay."""

    access = Access(cluster="cluster")

    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="+", verbose_name=_("cluster")
    )
    since = models.DateField(_("first day"), help_text=_("On which events were last seen, in UTC."))
    until = models.DateField(_("last day"))
    kept_until = models.DateField(
        _("kept until"), help_text=_("From then on they leave the event store again.")
    )
    asked_by = models.CharField(_("asked by"), max_length=150, blank=True, editable=False)
    asked_at = models.DateTimeField(_("asked"), auto_now_add=True)
    touched_at = models.DateTimeField(auto_now=True)
    finished_at = models.DateTimeField(_("finished"), null=True, editable=False)
    events = models.PositiveBigIntegerField(_("events"), default=0, editable=False)
    refused = models.PositiveBigIntegerField(_("refused"), default=0, editable=False)
    problem = SentenceField(_("problem"), limit=500, blank=True, editable=False)

    class Meta:
        verbose_name = _("restored events")
        verbose_name_plural = _("restored events")
        ordering = ["-asked_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.cluster}: {self.since} – {self.until}"

    @property
    def is_over(self) -> bool:
        return self.kept_until <= timezone.now().date()
