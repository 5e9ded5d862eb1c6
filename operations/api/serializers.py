"""The shape of operations in the API; rules are in the services."""

from typing import Any

from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.reverse import reverse

from beidou.base import permissions
from beidou.base.api.choices import ChosenField
from beidou.base.api.strict import StrictSerializer
from beidou.base.numbers import as_key
from clusters.models import Cluster
from clusters.services.adoption import Details
from machines.models import SshCredential
from machines.services import belonging
from operations.models import (
    Attempt,
    ClusterSettings,
    Freeze,
    MachineStep,
    MaintenanceWindow,
    Operation,
    OperationMachine,
    Step,
    TeamLimit,
)
from operations.services import calendars, live, references
from operations.services.create_cluster import Wish
from operations.services.start import MACHINES_MAX

_REFERENCE: dict[str, Any] = {
    "oneOf": [
        {"type": "integer", "description": "The key."},
        {"type": "string", "description": "Address, range of addresses, hostname, serial number."},
    ]
}


@extend_schema_field(_REFERENCE)
class ReferenceField(serializers.Field[Any, Any, Any, Any]):
    """A key or a name."""

    def to_internal_value(self, data: Any) -> int | str:
        if isinstance(data, int | str) and not isinstance(data, bool) and str(data).strip():
            return data
        raise serializers.ValidationError(_("Give a key (number) or a name (text)."))

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "oneOf": [
            *_REFERENCE["oneOf"],
            {
                "type": "object",
                "properties": {"address": {"type": "string"}, "role": {"type": "string"}},
                "required": ["address"],
            },
        ]
    }
)
class MachineReferenceField(ReferenceField):
    """As above, or an address together with the role the machine shall have."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            if set(data) - {"address", "role"} or not isinstance(data.get("address"), str):
                raise serializers.ValidationError(_("Write it as {address, role}."))
            return data
        return super().to_internal_value(data)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "integer", "description": "The key; answers hold it."},
            {"type": "string", "description": "The name."},
        ]
    }
)
class ChosenClusterField(ChosenField):
    """By key or, as where operations are begun, by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and (found := self.get_queryset().filter(name=data).first()):
            return found
        if as_key(data) is None:
            raise serializers.ValidationError(references.no_such_cluster(data))
        return super().to_internal_value(data)


def _owned_clusters(user: Any) -> QuerySet[Cluster]:
    return permissions.visible_to(user, Cluster.objects.all(), permissions.CHANGE)


class OperationSerializer(serializers.ModelSerializer[Operation]):
    """An operation as lists show it."""

    url = serializers.HyperlinkedIdentityField(view_name="operation-detail")
    display = serializers.CharField(source="__str__", read_only=True)
    page = serializers.SerializerMethodField()
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    is_held = serializers.BooleanField(
        read_only=True, help_text="A maintenance window or a freeze keeps it from beginning."
    )
    team_name = serializers.CharField(
        source="team.name", read_only=True, allow_null=True, help_text="The team it counts for."
    )
    machines_total = serializers.IntegerField(read_only=True)
    machines_succeeded = serializers.IntegerField(read_only=True)
    machines_failed = serializers.IntegerField(read_only=True)
    actions = serializers.SerializerMethodField()

    class Meta:
        model = Operation
        fields = [
            "id",
            "url",
            "page",
            "display",
            "name",
            "kind",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "status",
            "message",
            "waiting_for",
            "waiting_since",
            "waiting_until",
            "is_held",
            "glass_broken_at",
            "glass_broken_by",
            "glass_reason",
            "priority",
            "team",
            "team_name",
            "reason",
            "requested_by_name",
            "max_failed_percent",
            "forks",
            "machines_total",
            "machines_succeeded",
            "machines_failed",
            "actions",
            "created_at",
            "queued_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_page(self, operation: Operation) -> str:
        """Address of the live page."""
        return reverse(
            "admin:operations_operation_change",
            args=[operation.pk],
            request=self.context.get("request"),
        )

    def get_actions(self, operation: Operation) -> list[str]:
        """What its state allows; whether one may is another question."""
        return list(live.actions_of(operation.status))


class CellSerializer(serializers.ModelSerializer[MachineStep]):
    """One machine in one step: outcome, failed checks and proof."""

    step = serializers.CharField(source="step.name", read_only=True)

    class Meta:
        model = MachineStep
        fields = [
            "step",
            "status",
            "message",
            "checks",
            "evidence",
            "attempt",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields


class MemberSerializer(serializers.ModelSerializer[OperationMachine]):
    """One machine's part; ``id`` is what retry, skip and output filters take."""

    steps = CellSerializer(source="cells", many=True, read_only=True)

    class Meta:
        model = OperationMachine
        fields = ["id", "machine", "address", "hostname", "role", "state", "message", "steps"]
        read_only_fields = fields


class StepSerializer(serializers.ModelSerializer[Step]):
    class Meta:
        model = Step
        fields = [
            "position",
            "name",
            "status",
            "message",
            "attempt",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    step = serializers.CharField(source="step.name", read_only=True)

    class Meta:
        model = Attempt
        fields = [
            "step",
            "number",
            "holder",
            "machines",
            "outcome",
            "message",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields


class EstimateSerializer(serializers.Serializer[Any]):
    """Seconds from earlier runs (lower and upper quartile); null when there were none."""

    low = serializers.FloatField()
    high = serializers.FloatField()
    earlier_runs = serializers.IntegerField()


class OperationDetailSerializer(OperationSerializer):
    """An operation with everything that happened in it but the output."""

    steps = StepSerializer(many=True, read_only=True)
    machines = MemberSerializer(many=True, read_only=True)
    attempts = AttemptSerializer(many=True, read_only=True)
    estimate = EstimateSerializer(read_only=True, allow_null=True)
    remaining_seconds = serializers.FloatField(
        read_only=True,
        allow_null=True,
        help_text="From earlier runs; null when there were none or nothing is left to do.",
    )
    seen = serializers.CharField(
        read_only=True,
        help_text="A digest of its answers and failed checks, to be sent back with an approval; "
        "empty where there is none to give.",
    )

    class Meta(OperationSerializer.Meta):
        fields = [
            *OperationSerializer.Meta.fields,
            "params",
            "answers",
            "steps",
            "machines",
            "attempts",
            "estimate",
            "remaining_seconds",
            "seen",
        ]
        read_only_fields = fields


class StartSerializer(StrictSerializer):
    """What to do, where, with which machines."""

    kind = serializers.CharField(max_length=40, help_text="One of /api/v1/operation-kinds/.")
    cluster = ReferenceField(help_text="Name or key.")
    machines = serializers.ListField(
        child=MachineReferenceField(),
        required=False,
        default=list,
        max_length=MACHINES_MAX,
        help_text="May be left out for kinds with `whole_cluster`: all machines of the cluster.",
    )
    params = serializers.DictField(required=False, default=dict)
    name = serializers.RegexField(
        r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$",
        required=False,
        default="",
        allow_blank=True,
        help_text="Unique; empty: one is made.",
    )
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)
    max_failed_percent = serializers.IntegerField(
        min_value=0, max_value=100, required=False, default=100
    )
    forks = serializers.IntegerField(min_value=1, max_value=200, required=False, default=10)
    leave_out_blocked = serializers.BooleanField(required=False, default=False)
    priority = serializers.ChoiceField(
        choices=Operation.Priority.choices,
        required=False,
        default=Operation.Priority.NORMAL,
        help_text="high needs the right `approve` on the cluster.",
    )
    dry_run = serializers.BooleanField(
        required=False, default=False, help_text="Answer with the plan; start nothing."
    )


class CreateClusterSerializer(StrictSerializer):
    """A new cluster of free machines: details as for adopting, operation settings, parameters of
    the kind ``CreateCluster``."""

    name = serializers.CharField(max_length=63)
    description = serializers.CharField(required=False, allow_blank=True)
    environment = serializers.ChoiceField(
        choices=Cluster.Environment.choices, required=False, allow_blank=True
    )
    region = serializers.CharField(required=False, allow_blank=True, max_length=63)
    contact = serializers.CharField(required=False, allow_blank=True, max_length=200)
    labels = serializers.DictField(child=serializers.CharField(allow_blank=True), required=False)
    team = ChosenField(
        queryset=Group.objects.all(),
        among=permissions.teams_of,
        required=False,
        allow_null=True,
        help_text="One of your own teams, which becomes owner, unless you are a superuser.",
    )
    team_owns = serializers.BooleanField(required=False)
    machines = serializers.ListField(
        child=MachineReferenceField(),
        allow_empty=False,
        max_length=500,
        help_text="Roles are ControlPlane (one or three of them) and Compute.",
    )
    params = serializers.DictField(help_text="Of the kind CreateCluster.")
    credential = ChosenField(
        queryset=SshCredential.objects.all(),
        among=belonging.credentials_of,
        allow_null=True,
        required=False,
    )
    artifact_source = serializers.CharField(max_length=500)
    registry_mirror = serializers.CharField(max_length=500, required=False, allow_blank=True)
    overrides = serializers.DictField(required=False)
    policy = serializers.DictField(required=False)
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)
    forks = serializers.IntegerField(min_value=1, max_value=200, required=False, default=10)
    dry_run = serializers.BooleanField(
        required=False, default=False, help_text="Answer with the plan; begin nothing."
    )

    def to_details(self) -> Details:
        names = (
            "name", "description", "environment", "region", "contact", "labels", "team",
            "team_owns",
        )  # fmt: skip
        given = self.validated_data
        return Details(**{name: given[name] for name in names if name in given})

    def to_settings(self) -> dict[str, Any]:
        names = ("credential", "artifact_source", "overrides", "policy")
        given = self.validated_data
        return {name: given[name] for name in names if name in given}

    def to_wish(self, user: Any) -> Wish:
        """``InvalidInput`` for machines that ``user`` does not see."""
        asked = self.validated_data
        chosen = references.find_machines(asked["machines"], user=user)
        return Wish(
            details=self.to_details(),
            machines=chosen.machines,
            roles=chosen.roles,
            params=asked["params"],
            settings=self.to_settings(),
            registry_mirror=asked.get("registry_mirror", ""),
        )


class PlanStepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()


class PlanMachineSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    address = serializers.CharField()
    hostname = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(required=False, help_text="Why it is blocked.")
    reasons = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="The same one by one, the cause of the others first.",
    )


class PlanWarningSerializer(serializers.Serializer[Any]):
    """What should be known of a ready machine; it stops nothing."""

    id = serializers.IntegerField()
    address = serializers.CharField()
    hostname = serializers.CharField(allow_blank=True)
    message = serializers.CharField()


class PlanSerializer(serializers.Serializer[Any]):
    """What would happen; nothing was contacted and nothing changed."""

    kind = serializers.CharField()
    cluster = serializers.CharField()
    params = serializers.DictField()
    steps = PlanStepSerializer(many=True)
    ready = PlanMachineSerializer(many=True)
    blocked = PlanMachineSerializer(many=True)
    warnings = PlanWarningSerializer(many=True)
    blockers = serializers.ListField(
        child=serializers.CharField(), help_text="What blocks the whole operation."
    )
    notes = serializers.ListField(
        child=serializers.CharField(), help_text="What is worth knowing and blocks nothing."
    )
    estimate = EstimateSerializer(allow_null=True)


@extend_schema_serializer(component_name="OptionalReason")
class ReasonSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)


class UseSerializer(serializers.Serializer[Any]):
    """How much of one limit is in use; ``waiting`` is how many more want it."""

    key = serializers.IntegerField()
    name = serializers.CharField()
    used = serializers.IntegerField()
    limit = serializers.IntegerField()
    waiting = serializers.IntegerField()


class PlaceSerializer(serializers.Serializer[Any]):
    """One waiting operation; the position is among all that wait, whoever may see them."""

    position = serializers.IntegerField()
    counts_as = serializers.CharField(help_text="The priority that it has by waiting.")
    operation = OperationSerializer()


class QueueSerializer(serializers.Serializer[Any]):
    """What waits, in the order in which it will have its turn, and what holds slots now.

    What the caller may not see is counted (``…_hidden``) and not named.
    """

    at = serializers.DateTimeField()
    in_all = UseSerializer()
    teams = UseSerializer(many=True, help_text="The caller's own.")
    clusters = UseSerializer(many=True)
    waiting = PlaceSerializer(source="places", many=True)
    waiting_visible = serializers.IntegerField()
    waiting_hidden = serializers.IntegerField()
    page = serializers.IntegerField()
    pages = serializers.IntegerField()
    running = OperationSerializer(many=True, help_text="The first hundred.")
    running_visible = serializers.IntegerField()
    running_hidden = serializers.IntegerField()


@extend_schema_serializer(component_name="ChangedPriority")
class PrioritySerializer(ReasonSerializer):
    priority = serializers.ChoiceField(choices=Operation.Priority.choices)


@extend_schema_serializer(component_name="NeededReason")
class NeededReasonSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=500)


class MaintenanceWindowSerializer(serializers.ModelSerializer[MaintenanceWindow]):
    """Some hours of the week; a cluster that has any is changed within them alone."""

    url = serializers.HyperlinkedIdentityField(view_name="maintenancewindow-detail")
    display = serializers.CharField(source="__str__", read_only=True)
    cluster = ChosenClusterField(queryset=Cluster.objects.all(), among=_owned_clusters)
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    weekdays = serializers.ListField(
        child=serializers.ChoiceField(choices=MaintenanceWindow.Weekday.choices),
        help_text="On which it begins.",
    )
    time_zone = serializers.SerializerMethodField()

    class Meta:
        model = MaintenanceWindow
        fields = [
            "id",
            "url",
            "display",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "weekdays",
            "start",
            "minutes",
            "time_zone",
            "comment",
        ]

    def get_time_zone(self, window: MaintenanceWindow) -> str:
        """That of the cluster's operation settings, in which it begins."""
        found = getattr(window.cluster, "operation_settings", None)
        return calendars.zone_of(found.time_zone if found else "").key


class FreezeSerializer(serializers.ModelSerializer[Freeze]):
    """A time in which no change may begin: of one cluster, of those with a label, or of all."""

    url = serializers.HyperlinkedIdentityField(view_name="freeze-detail")
    display = serializers.CharField(source="__str__", read_only=True)
    cluster = ChosenClusterField(
        queryset=Cluster.objects.all(), among=_owned_clusters, required=False, allow_null=True
    )
    cluster_name = serializers.CharField(source="cluster.name", read_only=True, allow_null=True)
    cluster_insecure_tls = serializers.BooleanField(
        source="cluster.insecure_tls", read_only=True, allow_null=True
    )

    class Meta:
        model = Freeze
        fields = [
            "id",
            "url",
            "display",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "label",
            "begins_at",
            "ends_at",
            "reason",
        ]


class TeamLimitSerializer(serializers.ModelSerializer[TeamLimit]):
    """How many operations of a team may run at once, where it is another number than for all."""

    url = serializers.HyperlinkedIdentityField(view_name="teamlimit-detail")
    display = serializers.CharField(source="__str__", read_only=True)
    team_name = serializers.CharField(source="team.name", read_only=True)

    class Meta:
        model = TeamLimit
        fields = ["id", "url", "display", "team", "team_name", "limit"]


@extend_schema_serializer(component_name="Retry")
class RetrySerializer(ReasonSerializer):
    machines = serializers.ListField(
        child=ReferenceField(),
        required=False,
        allow_empty=False,
        help_text="Keys within the operation or addresses; left out: all that are not through.",
    )
    answers = serializers.DictField(
        required=False,
        default=dict,
        help_text="Parameters to change, of those that the kind names in `answers`.",
    )
    seen = serializers.CharField(
        max_length=64,
        default="",
        allow_blank=True,
        help_text="Needed with an approval: `seen` of the operation, as it was looked at.",
    )


class SkipSerializer(StrictSerializer):
    step = serializers.CharField(max_length=40)
    machines = serializers.ListField(child=ReferenceField(), allow_empty=False)
    reason = serializers.CharField(max_length=500)


class LineSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(help_text="From 1, without gaps.")
    at = serializers.IntegerField(help_text="Milliseconds since 1970.")
    machine = serializers.IntegerField(help_text="Key within the operation; 0: none in particular.")
    level = serializers.ChoiceField(choices=["info", "warning", "error"])
    text = serializers.CharField(allow_blank=True)


class OutputSerializer(serializers.Serializer[Any]):
    """``after`` continues forwards, ``before`` backwards; ``last`` is the newest line there is."""

    lines = LineSerializer(many=True)
    after = serializers.IntegerField()
    before = serializers.IntegerField()
    last = serializers.IntegerField()


class KindSerializer(serializers.Serializer[Any]):
    """A kind of operation; ``params`` is the JSON schema of its parameters."""

    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    permission = serializers.CharField()
    changes_machines = serializers.BooleanField()
    whole_cluster = serializers.BooleanField(
        help_text="Without machines it is done on all of the cluster."
    )
    roles = serializers.ListField(child=serializers.CharField())
    startable_states = serializers.ListField(child=serializers.CharField())
    steps = PlanStepSerializer(many=True)
    params = serializers.DictField()
    answers = serializers.ListField(
        child=serializers.CharField(), help_text="Parameters that a retry may change."
    )
    approvals = serializers.ListField(
        child=serializers.CharField(),
        help_text="Answers that only somebody else than who asked, with `approve`, may give.",
    )


class ClusterSettingsSerializer(serializers.ModelSerializer[ClusterSettings]):
    """What operations need to know about a cluster beyond its API."""

    cluster = serializers.IntegerField(source="cluster_id", read_only=True)
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    credential = ChosenField(
        queryset=SshCredential.objects.all(),
        among=belonging.credentials_of,
        allow_null=True,
        required=False,
    )
    artifact_source = serializers.CharField(max_length=500, required=False, allow_blank=True)
    overrides = serializers.DictField(required=False)
    policy = serializers.DictField(required=False)
    limit = serializers.IntegerField(required=False, allow_null=True)
    time_zone = serializers.CharField(required=False, allow_blank=True, max_length=64)
    reason = serializers.CharField(
        max_length=500, required=False, write_only=True, allow_blank=True
    )

    class Meta:
        model = ClusterSettings
        fields = [
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "credential",
            "artifact_source",
            "overrides",
            "policy",
            "limit",
            "time_zone",
            "reason",
        ]


class ManifestResultSerializer(serializers.Serializer[Any]):
    """What became of one document."""

    kind = serializers.CharField()
    name = serializers.CharField()
    created = serializers.BooleanField(help_text="false: it was there already, with this content.")
    url = serializers.CharField()
