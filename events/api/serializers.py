"""The shape of events in the API."""

from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from beidou.base.api.choices import ChosenField
from beidou.base.permissions import CHANGE, visible_to
from clusters.models import Cluster
from events.models import (
    Event,
    EventRestore,
    EventRetention,
    EventSegment,
    EventStream,
    SavedSearch,
)
from events.services import flow, restoring, searches, whole
from events.services.key_events import Figure
from events.services.retention import Kept
from events.services.search import FoundEvent


class EventSerializer(serializers.ModelSerializer[Event]):
    id = serializers.CharField(source="key", read_only=True)
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)

    class Meta:
        model = Event
        fields = (
            "id", "cluster", "cluster_name", "cluster_insecure_tls", "uid", "version",
            "first_seen", "last_seen", "count", "type",
            "reason", "namespace", "kind", "name", "object_uid", "node", "component", "message",
        )  # fmt: skip
        read_only_fields = fields


class EventDetailSerializer(EventSerializer):
    object = serializers.SerializerMethodField(help_text="The event as the cluster gave it.")

    class Meta(EventSerializer.Meta):
        fields = (*EventSerializer.Meta.fields, "object")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_object(self, event: FoundEvent) -> Any:
        return whole.whole(event)


@extend_schema_serializer(many=False)
class EventPageSerializer(serializers.Serializer[Any]):
    """Some events; ``next`` leads to older ones, and is null behind the last."""

    next = serializers.URLField(allow_null=True)
    results = EventSerializer(many=True)


class ValueSerializer(serializers.Serializer[Any]):
    """``value`` is what the filter takes; ``name`` is what people call it."""

    value = serializers.CharField()
    name = serializers.CharField()
    count = serializers.IntegerField()


class CountsSerializer(serializers.Serializer[Any]):
    field = serializers.CharField()
    values = ValueSerializer(many=True)


class BucketSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    warnings = serializers.IntegerField()
    others = serializers.IntegerField()


class HistogramSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    buckets = BucketSerializer(many=True)


class TopSerializer(serializers.Serializer[Any]):
    value = serializers.CharField()
    count = serializers.IntegerField()


class KeyPartSerializer(serializers.Serializer[Any]):
    """``filter`` is what ``events/`` takes to find them."""

    name = serializers.CharField(source="measure.name")
    title = serializers.CharField(source="measure.label")
    count = serializers.IntegerField()
    usual = serializers.FloatField(
        allow_null=True, help_text="Null where there is nothing to compare with yet."
    )
    is_more = serializers.BooleanField(help_text="Clearly more than usual.")
    filter = serializers.SerializerMethodField()

    def get_filter(self, figure: Figure) -> str:
        return figure.measure.address(QueryDict())


class KeyFigureSerializer(KeyPartSerializer):
    parts = KeyPartSerializer(many=True)


class NewReasonSerializer(serializers.Serializer[Any]):
    cluster = serializers.IntegerField(source="cluster_id")
    cluster_name = serializers.CharField(source="cluster.name")
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls")
    reason = serializers.CharField()
    first_seen = serializers.DateTimeField()


class KeyEventsSerializer(serializers.Serializer[Any]):
    """``objects`` and ``nodes`` are those of all warnings, or of what was asked by ``of``."""

    since = serializers.DateTimeField(source="wanted.since")
    until = serializers.DateTimeField(source="wanted.until")
    compared = serializers.IntegerField(
        help_text="With how many earlier days (for 7d: weeks) it is compared."
    )
    figures = KeyFigureSerializer(many=True)
    objects = TopSerializer(many=True)
    nodes = TopSerializer(many=True)
    new_reasons = NewReasonSerializer(
        source="new.rows", many=True, help_text="The newest 50 of them."
    )
    new_reasons_count = serializers.IntegerField(
        source="new.count", help_text="How many there are, listed or not."
    )
    not_compared = serializers.IntegerField(
        source="new.untold",
        help_text="Clusters of which nothing is known from before, so that no reason is new.",
    )
    not_noticed = serializers.IntegerField(
        source="new.full",
        help_text="Clusters that have given 1,000 reasons: no further one is noticed.",
    )


class EventStreamSerializer(serializers.ModelSerializer[EventStream]):
    """How the events of a cluster flow; ``state`` says it in a word."""

    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    state = serializers.SerializerMethodField()

    class Meta:
        model = EventStream
        fields = (
            "cluster", "cluster_name", "cluster_insecure_tls", "state", "problem",
            "problem_since", "heard", "stored", "refused",
            "waiting", "waiting_bytes", "spool_percent", "lag_seconds", "per_minute",
            "last_event_at", "contact_at", "position", "position_at", "holder", "updated_at",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=flow.State.choices))
    def get_state(self, stream: EventStream) -> str:
        return flow.state_of(stream).value


class SavedSearchSerializer(serializers.ModelSerializer[SavedSearch]):
    """``search`` is what stands behind the question mark of ``/events/``."""

    owner = serializers.IntegerField(source="owner_id", read_only=True)
    owner_name = serializers.CharField(source="owner", read_only=True)

    class Meta:
        model = SavedSearch
        fields = (
            "id", "url", "name", "search", "shared", "owner", "owner_name", "created_at",
        )  # fmt: skip

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        user = self.context["request"].user
        names = ("name", "search", "shared")
        stored = self.instance
        wanted = SavedSearch(pk=getattr(stored, "pk", None), owner=getattr(stored, "owner", user))
        for name in names:
            setattr(wanted, name, attrs.get(name, getattr(stored, name, getattr(wanted, name))))
        searches.validate(wanted, user)
        return {**attrs, "search": wanted.search, "owner": wanted.owner}


class EventRetentionSerializer(serializers.ModelSerializer[EventRetention]):
    """``days`` and ``warning_days`` are the cluster's own, or null; in force are ``kept_…``."""

    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    kept_days = serializers.SerializerMethodField()
    kept_warning_days = serializers.SerializerMethodField()
    reason = serializers.CharField(write_only=True, required=False, max_length=500)

    class Meta:
        model = EventRetention
        fields = (
            "cluster", "cluster_name", "cluster_insecure_tls", "days", "warning_days", "kept_days",
            "kept_warning_days", "reason",
        )  # fmt: skip
        read_only_fields = ("cluster",)

    def get_kept_days(self, row: EventRetention) -> int:
        return Kept.of(row.days, row.warning_days).days

    def get_kept_warning_days(self, row: EventRetention) -> int:
        return Kept.of(row.days, row.warning_days).warning_days


class EventSegmentSerializer(serializers.ModelSerializer[EventSegment]):
    """``cluster`` is null where it was un-adopted since; while ``removed_at`` is null the events
    are, or may be, in the event store, too."""

    cluster_insecure_tls = serializers.BooleanField(
        source="cluster.insecure_tls", read_only=True, allow_null=True
    )

    class Meta:
        model = EventSegment
        fields = (
            "id", "cluster", "cluster_uid", "cluster_name", "cluster_insecure_tls", "day", "part",
            "number", "object_name", "events", "bytes", "sha256", "first_seen", "last_seen",
            "archived_at", "removed_at", "problem",
        )  # fmt: skip
        read_only_fields = fields


def _owned_clusters(user: Any) -> QuerySet[Cluster]:
    return visible_to(user, Cluster.objects.all(), CHANGE)


class EventRestoreSerializer(serializers.ModelSerializer[EventRestore]):
    """Days of a cluster that are brought back, and until when they stay (7 days, if not said)."""

    cluster = ChosenField(queryset=Cluster.objects.all(), among=_owned_clusters)
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    kept_until = serializers.DateField(default=restoring.usual_end)
    reason = serializers.CharField(write_only=True, required=False, max_length=500)

    class Meta:
        model = EventRestore
        fields = (
            "id", "cluster", "cluster_name", "cluster_insecure_tls", "since", "until", "kept_until",
            "asked_by", "asked_at", "finished_at", "events", "refused", "problem", "reason",
        )  # fmt: skip
        read_only_fields = (
            "asked_by", "asked_at", "finished_at", "events", "refused", "problem",
        )  # fmt: skip
