"""The shapes of rules, receivers, messages and notices; secrets go in and never come out."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from beidou.base import notices, permissions
from beidou.base.api.choices import ChosenField
from beidou.base.models import Notice
from clusters.models import Cluster
from notifications.models import Delivery, NotificationRule, Receiver
from notifications.services import belonging, content, receivers, rules, sending


class SeveralField(serializers.PrimaryKeyRelatedField[Any]):
    """``ChosenField`` for many: those that ``among`` gives the person, and those chosen now."""

    def __init__(self, *, among: Callable[[Any], QuerySet[Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._among = among

    def get_queryset(self) -> QuerySet[Any]:
        rows = self._among(self.context["request"].user)
        chosen = Q(pk__in=rows.values("pk"))
        instance = getattr(self.root, "instance", None)
        if isinstance(instance, NotificationRule):
            present = getattr(instance, str(self.parent.source))
            chosen |= Q(pk__in=present.values("pk"))
        found: QuerySet[Any] = rows.model._default_manager.filter(chosen)
        return found


def _receivers_for(user: Any) -> QuerySet[Receiver]:
    return permissions.visible_to(user, Receiver.objects.all(), permissions.CHANGE)


class RuleSerializer(serializers.ModelSerializer[NotificationRule]):
    """Which news are told to which receivers."""

    team = ChosenField(
        queryset=Group.objects.all(),
        among=belonging.teams_led_by,
        required=False,
        allow_null=True,
        help_text="It tells only of what this team may see; null: of the whole fleet.",
    )
    kinds = serializers.ListField(
        child=serializers.CharField(max_length=40),
        required=False,
        max_length=100,
        help_text="What is told; empty: everything.",
    )
    clusters = SeveralField(
        queryset=Cluster.objects.all(),
        among=belonging.clusters_for,
        many=True,
        required=False,
    )
    receivers = SeveralField(queryset=Receiver.objects.all(), among=_receivers_for, many=True)

    class Meta:
        model = NotificationRule
        fields = (
            "id",
            "url",
            "name",
            "team",
            "kinds",
            "severity",
            "scope",
            "labels",
            "clusters",
            "receivers",
            "enabled",
            "created_at",
        )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        stored = self.instance
        names = ("name", "team", "kinds", "severity", "scope", "labels")
        wanted = NotificationRule(
            **{name: getattr(stored, name) for name in names if stored is not None}
        )
        for name in names:
            if name in attrs:
                setattr(wanted, name, attrs[name])
        if stored is None:
            attrs.setdefault("clusters", [])
        rules.validate(
            wanted,
            self.context["request"].user,
            clusters=_given(attrs, "clusters", stored),
            receivers=_given(attrs, "receivers", stored),
            stored=stored,
        )
        attrs["labels"] = wanted.labels
        if wanted.scope != NotificationRule.Scope.CHOSEN:
            attrs["clusters"] = []
        return attrs


def _given(attrs: dict[str, Any], name: str, stored: NotificationRule | None) -> list[Any]:
    if name in attrs:
        return list(attrs[name])
    return [] if stored is None else list(getattr(stored, name).all())


class ReceiverSerializer(serializers.ModelSerializer[Receiver]):
    """A way to tell somebody; an empty secret keeps what is stored."""

    team = ChosenField(
        queryset=Group.objects.all(),
        among=belonging.teams_led_by,
        required=False,
        allow_null=True,
        help_text="It is told only what this team may see; null: the whole fleet.",
    )
    has = serializers.SerializerMethodField(help_text="Which secrets are stored.")

    class Meta:
        model = Receiver
        fields = (
            "id",
            "url",
            "name",
            "team",
            "channel",
            "addresses",
            "webhook_url",
            *receivers.SECRETS,
            "has",
            "language",
            "enabled",
            "tested_at",
            "test_result",
            "created_at",
        )
        read_only_fields = ("tested_at", "test_result")
        extra_kwargs = {
            name: {
                "write_only": True,
                "required": False,
                "allow_blank": True,
                "max_length": 2000,
                "trim_whitespace": False,
                "style": {"input_type": "password"},
            }
            for name in receivers.SECRETS
        }

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_has(self, receiver: Receiver) -> list[str]:
        return [name for name in receivers.SECRETS if getattr(receiver, name)]

    def create(self, validated_data: dict[str, Any]) -> Receiver:
        return self._written(Receiver(), None, validated_data)

    def update(self, instance: Receiver, validated_data: dict[str, Any]) -> Receiver:
        return self._written(instance, Receiver.objects.get(pk=instance.pk), validated_data)

    def _written(
        self, receiver: Receiver, stored: Receiver | None, values: dict[str, Any]
    ) -> Receiver:
        given = {name: values.pop(name, "") for name in receivers.SECRETS}
        for name, value in values.items():
            setattr(receiver, name, value)
        receivers.apply_secrets(receiver, given)
        receivers.validate(receiver, self.context["request"].user, stored=stored)
        receiver.save()
        sending.hurry(receiver)
        return receiver


class NoticeSerializer(serializers.ModelSerializer[Notice]):
    """Something that happened and that rules may tell of."""

    kind_label = serializers.SerializerMethodField()
    link = serializers.SerializerMethodField(help_text="The page of the object, if it has one.")
    cluster = serializers.IntegerField(source="cluster_id", read_only=True, allow_null=True)
    team = serializers.IntegerField(source="team_id", read_only=True, allow_null=True)

    class Meta:
        model = Notice
        fields = (
            "id",
            "at",
            "kind",
            "kind_label",
            "severity",
            "title",
            "details",
            "cluster",
            "team",
            "object_type",
            "object_id",
            "link",
        )

    def get_kind_label(self, notice: Notice) -> str:
        return notices.label_of(notice.kind)

    def get_link(self, notice: Notice) -> str:
        return content.link(notice.object_type, notice.object_id)


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """One message to one receiver."""

    title = serializers.CharField(
        source="first_line", read_only=True, help_text="Of the worst notice that it tells of."
    )
    receiver_name = serializers.CharField(source="receiver.name", read_only=True)

    class Meta:
        model = Delivery
        fields = (
            "id",
            "url",
            "key",
            "receiver",
            "receiver_name",
            "status",
            "severity",
            "count",
            "title",
            "is_test",
            "tries",
            "last_error",
            "created_at",
            "tried_at",
            "next_try_at",
            "sent_at",
        )


class PreviewSerializer(serializers.Serializer[Any]):
    """What a rule would have told within the last 24 hours."""

    since = serializers.DateTimeField()
    found = serializers.IntegerField()
    is_part = serializers.BooleanField(help_text="More has happened than was looked at.")
    newest = NoticeSerializer(many=True)
