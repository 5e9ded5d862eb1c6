"""The shapes of machines, drift and credentials; secrets go in and never come out."""

from typing import Any, ClassVar

from django.contrib.auth.models import Group
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from beidou.base import permissions
from beidou.base.api.choices import ChosenField
from beidou.base.api.strict import StrictSerializer
from machines.models import Drift, Machine, MachineFacts, MachineStatusChange, SshCredential
from machines.services import belonging, credentials, host_keys, lifecycle


class LabelsField(serializers.DictField):
    """A flat mapping of texts."""

    child = serializers.CharField(allow_blank=True)


class MachineSerializer(serializers.ModelSerializer[Machine]):
    """A machine: intended values can be written, the rest is what happened to it."""

    labels = LabelsField(required=False)
    owner_team = ChosenField(
        queryset=Group.objects.all(), among=permissions.teams_of, required=False, allow_null=True
    )
    credential = ChosenField(
        queryset=SshCredential.objects.all(),
        among=belonging.credentials_of,
        required=False,
        allow_null=True,
    )
    change_reason = serializers.CharField(
        write_only=True, required=False, allow_blank=True, max_length=500, default=""
    )
    cluster_name = serializers.CharField(
        source="cluster.name", read_only=True, default=None, allow_null=True
    )
    cluster_insecure_tls = serializers.BooleanField(
        source="cluster.insecure_tls", read_only=True, default=None, allow_null=True
    )
    node_name = serializers.CharField(
        source="node.name", read_only=True, default=None, allow_null=True
    )
    host_key = serializers.SerializerMethodField(help_text="Fingerprint of the pinned key.")
    offered_host_key = serializers.SerializerMethodField(
        help_text="Fingerprint of a changed key that waits for a decision; blocks everything."
    )

    class Meta:
        model = Machine
        fields: tuple[str, ...] = (
            "id",
            "url",
            "address",
            "hostname",
            "serial",
            "asset_tag",
            "system_uuid",
            "room",
            "rack",
            "position",
            "owner_team",
            "role",
            "labels",
            "notes",
            "warranty_until",
            "vendor",
            "model",
            "cpus",
            "memory_mib",
            "disks",
            "nics",
            "gpus",
            "os",
            "kernel",
            "credential",
            "host_key",
            "offered_host_key",
            "host_key_at",
            "state",
            "state_since",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "node",
            "node_name",
            "created_at",
            "change_reason",
        )
        read_only_fields = ("state", "state_since", "cluster", "node", "host_key_at")
        validators: list[Any] = []  # the service validates whole machines, with sentences
        # The model's own check: it lets pass what is stored already.
        extra_kwargs: ClassVar[dict[str, Any]] = {"system_uuid": {"validators": []}}

    def get_host_key(self, machine: Machine) -> str:
        return host_keys.fingerprint(machine.host_key)

    def get_offered_host_key(self, machine: Machine) -> str:
        return host_keys.fingerprint(machine.offered_host_key)


class FactsSerializer(serializers.ModelSerializer[MachineFacts]):
    """What the last visit found, and what kept a later one from succeeding."""

    facts = serializers.JSONField(read_only=True)

    class Meta:
        model = MachineFacts
        fields = ("facts", "gathered_at", "error", "failed_at")


class TransitionSerializer(serializers.ModelSerializer[MachineStatusChange]):
    """One change of state."""

    class Meta:
        model = MachineStatusChange
        fields = ("id", "old", "new", "reason", "actor", "operation", "at")


class ActSerializer(StrictSerializer):
    """Either an ``action`` or the state ``to`` go to, and why."""

    action = serializers.ChoiceField(choices=lifecycle.Action.choices, required=False)
    to = serializers.ChoiceField(choices=Machine.State.choices, required=False)
    reason = serializers.CharField(max_length=500)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("action" in attrs) == ("to" in attrs):
            raise serializers.ValidationError(_("Give either action or to."))
        return attrs


class HostKeySerializer(StrictSerializer):
    """The decision about a changed host key, naming the fingerprint that was shown."""

    decision = serializers.ChoiceField(choices=["accept", "reject"])
    fingerprint = serializers.CharField(max_length=100)
    reason = serializers.CharField(max_length=500)


class KeyField(serializers.IntegerField):
    """The key of a row: what a database's column of keys can hold."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=2**63 - 1, **kwargs)


class MachinesSerializer(StrictSerializer):
    """Which machines; at most a thousand at once."""

    machines = serializers.ListField(child=KeyField(), allow_empty=False, max_length=1000)


class RefusedSerializer(serializers.Serializer[Any]):
    machine = serializers.IntegerField()
    message = serializers.CharField()


class GatheringSerializer(serializers.Serializer[Any]):
    """Which machines will be visited, and why others will not."""

    accepted = serializers.ListField(child=serializers.IntegerField())
    refused = RefusedSerializer(many=True)


class ImportSerializer(serializers.Serializer[Any]):
    file = serializers.FileField(help_text="CSV (UTF-8) or XLSX.")
    dry_run = serializers.BooleanField(default=False)
    change_reason = serializers.CharField(
        required=False, allow_blank=True, max_length=500, default=""
    )


class MistakeSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField(allow_null=True)
    column = serializers.CharField()
    letter = serializers.CharField()
    message = serializers.CharField()


class FieldChangeSerializer(serializers.Serializer[Any]):
    column = serializers.CharField()
    before = serializers.CharField(allow_blank=True)
    after = serializers.CharField(allow_blank=True)


class RowChangeSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    machine = serializers.CharField()
    is_new = serializers.BooleanField()
    changes = serializers.SerializerMethodField()

    @extend_schema_field(FieldChangeSerializer(many=True))
    def get_changes(self, row: Any) -> list[dict[str, str]]:
        return [
            {"column": name, "before": before, "after": after}
            for name, before, after in row.changes
        ]


class ImportedSerializer(serializers.Serializer[Any]):
    """What the file changed, or would change (``dry_run``), or why nothing was imported."""

    is_applied = serializers.BooleanField()
    new = serializers.IntegerField()
    changed = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    mistakes = MistakeSerializer(many=True)
    changes = RowChangeSerializer(many=True)


class RegisterSerializer(StrictSerializer):
    """Make machines of the nodes of a cluster that are none yet (all, or the named ones)."""

    cluster = KeyField()
    nodes = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Names; all without it."
    )
    owner_team = KeyField(required=False, allow_null=True)
    credential = KeyField(required=False, allow_null=True)


class RegisteredSerializer(serializers.Serializer[Any]):
    created = serializers.ListField(child=serializers.IntegerField())
    linked = serializers.ListField(child=serializers.IntegerField())
    refused = serializers.DictField(
        child=serializers.CharField(), help_text="Node name to sentence."
    )


class DriftSerializer(serializers.ModelSerializer[Drift]):
    machine_name = serializers.CharField(source="machine", read_only=True)

    class Meta:
        model = Drift
        fields = (
            "id",
            "url",
            "machine",
            "machine_name",
            "field",
            "intended",
            "observed",
            "verdict",
            "first_seen",
            "last_seen",
        )


class JudgeSerializer(StrictSerializer):
    """``observed``: the value that was looked at, when it must still be the same."""

    observed = serializers.CharField(required=False, allow_blank=True)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500, default="")


class CredentialSerializer(serializers.ModelSerializer[SshCredential]):
    """A credential; an empty secret keeps what is stored, ``forget`` removes it."""

    forget = serializers.MultipleChoiceField(
        choices=[(name, name) for name in credentials.SECRETS], write_only=True, required=False
    )
    test_machine = KeyField(
        write_only=True, required=False, help_text="Try it on this machine when it is saved."
    )
    team = ChosenField(
        queryset=Group.objects.all(), among=permissions.teams_of, required=False, allow_null=True
    )
    has = serializers.SerializerMethodField(help_text="Which secrets are stored.")

    class Meta:
        model = SshCredential
        fields = (
            "id",
            "url",
            "name",
            "team",
            "user",
            "port",
            "become",
            *credentials.SECRETS,
            "forget",
            "test_machine",
            "has",
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
                "trim_whitespace": False,
                "style": {"input_type": "password"},
            }
            for name in credentials.SECRETS
        }

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_has(self, credential: SshCredential) -> list[str]:
        return [name for name in credentials.SECRETS if getattr(credential, name)]

    def create(self, validated_data: dict[str, Any]) -> SshCredential:
        return self.update(SshCredential(), validated_data)

    def update(self, instance: SshCredential, validated_data: dict[str, Any]) -> SshCredential:
        given = {name: validated_data.pop(name, "") for name in credentials.SECRETS}
        forget = tuple(validated_data.pop("forget", ()))
        validated_data.pop("test_machine", None)
        for name, value in validated_data.items():
            setattr(instance, name, value)
        credentials.apply_secrets(instance, given, forget=forget)
        credentials.validate(instance)
        instance.save()
        return instance


class TestOnSerializer(StrictSerializer):
    __test__ = False
    machine = KeyField()


class TestStepSerializer(serializers.Serializer[Any]):
    __test__ = False
    name = serializers.CharField()
    is_ok = serializers.BooleanField()
    message = serializers.CharField()


class TestResultSerializer(serializers.Serializer[Any]):
    """The steps of the test up to the first that failed."""

    __test__ = False
    is_ok = serializers.BooleanField()
    steps = TestStepSerializer(many=True)
    fingerprint = serializers.CharField(help_text="The machine's pinned host key.")
