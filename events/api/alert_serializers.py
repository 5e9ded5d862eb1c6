"""The shape of alert rules, of previews and of alerts in the API."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from beidou.base.api.filters import FilterSet
from beidou.base.api.strict import StrictSerializer
from events.models import AlertRule, EventAlert
from events.services import alert_rules, searches

COUNTED = ("search", "threshold", "window_minutes", "group_by", "quiet_from", "quiet_to")


class NothingSerializer(StrictSerializer):
    """A body without anything in it."""


class _Checked(serializers.ModelSerializer[AlertRule]):
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        stored: Any = self.instance
        wanted = AlertRule()
        for name in COUNTED:
            usual = getattr(wanted if stored is None else stored, name)
            setattr(wanted, name, attrs.get(name, usual))
        is_new = stored is None and "name" in attrs
        alert_rules.validate(wanted, self.context["request"].user, is_new=is_new)
        return {**attrs, "search": wanted.search}


class UnsavedRuleSerializer(StrictSerializer, _Checked):
    """What is counted by a rule, without its name."""

    class Meta:
        model = AlertRule
        fields = COUNTED


class AlertRuleSerializer(_Checked):
    """``problem`` says why the rule does not do what it should, since ``problem_since``."""

    owner = serializers.IntegerField(source="owner_id", read_only=True, allow_null=True)
    firing = serializers.SerializerMethodField(help_text="How many alerts fire now.")

    class Meta:
        model = AlertRule
        fields = (
            "id", "url", "name", *COUNTED, "severity", "enabled", "owner", "owner_name", "firing",
            "looked_at", "problem", "problem_since", "created_at",
        )  # fmt: skip
        read_only_fields = ("owner_name", "looked_at", "problem", "problem_since")

    def get_firing(self, rule: Any) -> int:
        # Of a list counted with it; of a row just written by itself.
        found = getattr(rule, "number_firing", None)
        return rule.alerts.filter(ended_at=None).count() if found is None else int(found)

    def create(self, validated_data: dict[str, Any]) -> AlertRule:
        user = self.context["request"].user
        return super().create({**validated_data, "owner": user, "owner_name": user.get_username()})


class FiringSerializer(serializers.Serializer[Any]):
    """``ended`` null: it would fire now.  ``told_at`` null: quiet hours kept it from being told."""

    cluster = serializers.IntegerField(allow_null=True)
    value = serializers.CharField()
    search = serializers.CharField()
    began = serializers.DateTimeField()
    ended = serializers.DateTimeField(allow_null=True)
    peak = serializers.IntegerField()
    told_at = serializers.DateTimeField(allow_null=True)


class AlertPreviewSerializer(serializers.Serializer[Any]):
    """What would have fired; an event that repeats is found where it was last seen."""

    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    found = serializers.IntegerField(help_text="Of these the newest are listed.")
    groups_left_out = serializers.BooleanField(
        help_text="There are more groups; those with the most events were looked at."
    )
    is_late = serializers.BooleanField(help_text="Counting all of it would have taken too long.")
    firings = FiringSerializer(many=True)


class EventAlertFilter(FilterSet):
    state = filters.ChoiceFilter(
        choices=[("firing", "firing"), ("over", "over")], method="in_state", label="state"
    )

    class Meta:
        model = EventAlert
        fields: ClassVar[dict[str, list[str]]] = {
            "rule": ["exact"],
            "cluster": ["exact", "isnull"],
            "value": ["exact"],
            "began_at": ["gte", "lte"],
        }

    def in_state(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return rows.filter(ended_at__isnull=value == "firing")


class EventAlertSerializer(serializers.ModelSerializer[EventAlert]):
    """``search`` is what stands behind the question mark of ``/events/``."""

    rule_name = serializers.CharField(source="rule.name", read_only=True)
    severity = serializers.CharField(source="rule.severity", read_only=True)
    cluster_name = serializers.CharField(
        source="cluster.name", read_only=True, default=None, allow_null=True
    )
    cluster_insecure_tls = serializers.BooleanField(
        source="cluster.insecure_tls", read_only=True, default=None, allow_null=True
    )
    state = serializers.SerializerMethodField()
    search = serializers.SerializerMethodField(help_text="With the times of the alert.")

    class Meta:
        model = EventAlert
        fields = (
            "id", "url", "rule", "rule_name", "severity", "cluster", "cluster_name",
            "cluster_insecure_tls", "group_by", "value", "state", "began_at", "last_at",
            "ended_at", "count", "peak", "told", "search",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=["firing", "over"]))
    def get_state(self, alert: EventAlert) -> str:
        return "firing" if alert.is_firing else "over"

    def get_search(self, alert: EventAlert) -> str:
        return searches.timed(alert.search, since=alert.since, until=alert.ended_at)
