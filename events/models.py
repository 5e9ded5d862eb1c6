"""Kubernetes events in the database, the embedded store, and how each cluster's stream goes; what
people save to look for in them.

Events and streams are not edited by people.  Events are written by the collector in bulk, by SQL
(see ``events.drivers.database``), and belong to their cluster; rights follow it.
"""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField
from clusters.models import Cluster


class Event(models.Model):
    """One Kubernetes event in its last state: a repeated one is one row with its count.

    On PostgreSQL the table is partitioned by ``day``; both databases have a full-text index over
    what it says (see the first migration).
    """

    access = Access(cluster="cluster")

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
        ]

    def __str__(self) -> str:
        return f"{self.reason} {self.kind} {self.name}".strip()


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
    waiting = models.PositiveBigIntegerField(_("waiting in the spool"), default=0)
    waiting_bytes = models.PositiveBigIntegerField(_("size of the spool, bytes"), default=0)
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


SEARCH_MAX = 4000
"""Characters of a search as an address says it: fifty long names are about as many."""


class SavedSearch(models.Model):
    """A search under a name.  Whoever opens it sees what he may see; the search holds no event."""

    access = Access(owner="owner", owner_needs="view", shared="shared")

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
