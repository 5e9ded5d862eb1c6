"""The shapes of clusters, nodes and grants; secrets go in and never come out."""

from typing import Any

from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework import serializers

from beidou.base import permissions
from beidou.base.api.choices import ChosenField
from beidou.base.api.strict import StrictSerializer
from clusters.models import Cluster, ClusterGrant, Node
from clusters.services import capabilities
from clusters.services.adoption import Details
from clusters.services.checking import Findings, Source


class LabelsField(serializers.DictField):
    """A flat mapping of texts."""

    child = serializers.CharField(allow_blank=True)


class ClusterSerializer(serializers.ModelSerializer[Cluster]):
    """A cluster in a list; ``credential_*`` tell of the credential without showing it."""

    labels = LabelsField(required=False)
    is_stale = serializers.BooleanField(read_only=True)
    operations_running = serializers.IntegerField(read_only=True)
    credential_subject = serializers.CharField(read_only=True, allow_null=True)
    credential_expires_at = serializers.DateTimeField(read_only=True, allow_null=True)

    class Meta:
        model = Cluster
        fields: tuple[str, ...] = (
            "id",
            "url",
            "name",
            "description",
            "environment",
            "region",
            "labels",
            "team",
            "contact",
            "type",
            "uid",
            "server",
            "insecure_tls",
            "version",
            "phase",
            "pod_cidr",
            "service_cidr",
            "created_at",
            "health",
            "health_reason",
            "health_since",
            "is_stale",
            "checked_at",
            "observed_at",
            "sums_at",
            "nodes_total",
            "nodes_ready",
            "cpu_allocatable",
            "cpu_requested",
            "memory_allocatable",
            "memory_requested",
            "pods_allocatable",
            "pods_count",
            "operations_running",
            "server_certificate_expires_at",
            "credential_subject",
            "credential_expires_at",
        )
        read_only_fields = tuple(
            name
            for name in fields
            if name
            not in (
                "name",
                "description",
                "environment",
                "region",
                "labels",
                "team",
                "contact",
            )
        )


class ComponentSerializer(serializers.Serializer[Any]):
    """``healthy`` is null when it cannot be known; ``message`` says why."""

    name = serializers.CharField()
    healthy = serializers.BooleanField(allow_null=True)
    message = serializers.CharField()
    ready = serializers.IntegerField(allow_null=True)
    desired = serializers.IntegerField(allow_null=True)


class ClusterDetailSerializer(ClusterSerializer):
    components = ComponentSerializer(many=True, read_only=True)
    workloads = serializers.DictField(read_only=True)

    class Meta(ClusterSerializer.Meta):
        fields = (*ClusterSerializer.Meta.fields, "components", "workloads")
        read_only_fields = (*ClusterSerializer.Meta.read_only_fields, "components", "workloads")


class CapabilitySerializer(serializers.Serializer[Any]):
    """One feature: whether it will work, why not, and the RBAC objects that would mend it.

    ``planned``: this version does not have it yet; the rights for it are looked at already.
    """

    key = serializers.CharField()
    ok = serializers.BooleanField()
    planned = serializers.SerializerMethodField()
    why = serializers.SerializerMethodField()
    missing = serializers.ListField(child=serializers.CharField())
    rbac = serializers.CharField()

    def get_planned(self, row: dict[str, Any]) -> bool:
        return row["key"] in capabilities.PLANNED

    def get_why(self, row: dict[str, Any]) -> str:
        return capabilities.why(row)


class CheckStepSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment] # a field's name, taken off the class
    status = serializers.ChoiceField(choices=["ok", "warning", "failed", "skipped"])
    detail = serializers.CharField()
    code = serializers.CharField()


class SourceSerializer(StrictSerializer):
    """A kubeconfig (and a context of it), or server, CA and token."""

    kubeconfig = serializers.CharField(
        write_only=True, required=False, allow_blank=True, trim_whitespace=False
    )
    context = serializers.CharField(  # type: ignore[assignment] # as above
        write_only=True, required=False, allow_blank=True
    )
    server = serializers.CharField(write_only=True, required=False, allow_blank=True)
    ca_pem = serializers.CharField(
        write_only=True, required=False, allow_blank=True, trim_whitespace=False
    )
    token = serializers.CharField(write_only=True, required=False, allow_blank=True)

    def to_source(self) -> Source:
        names = ("kubeconfig", "context", "server", "ca_pem", "token")
        given = self.validated_data
        return Source(**{name: given[name] for name in names if name in given})


class AdoptSerializer(SourceSerializer):
    """What adopting needs; with ``dry_run`` only the check is made and ``name`` may be missing."""

    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False, allow_blank=True)
    environment = serializers.ChoiceField(
        choices=Cluster.Environment.choices, required=False, allow_blank=True
    )
    region = serializers.CharField(required=False, allow_blank=True)
    contact = serializers.CharField(required=False, allow_blank=True)
    labels = LabelsField(required=False)
    team = ChosenField(
        queryset=Group.objects.all(),
        among=permissions.teams_of,
        required=False,
        allow_null=True,
        help_text="One of your own teams, which becomes owner, unless you are a superuser.",
    )
    team_owns = serializers.BooleanField(
        required=False, help_text="Grant the owner team the role Owner on the new cluster."
    )
    dry_run = serializers.BooleanField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("dry_run") and not attrs.get("name"):
            raise serializers.ValidationError({"name": _("Give the cluster a name.")})
        return attrs

    def to_details(self) -> Details:
        names = (
            "name", "description", "environment", "region", "contact", "labels", "team",
            "team_owns",
        )  # fmt: skip
        given = self.validated_data
        return Details(**{name: given[name] for name in names if name in given})


class ReplaceCredentialSerializer(SourceSerializer):
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500)


class ReportSerializer(serializers.Serializer[Any]):
    """What the check found; ``ok`` is whether the cluster can be adopted."""

    ok = serializers.BooleanField()
    steps = CheckStepSerializer(many=True)
    capabilities = CapabilitySerializer(many=True)


class AdoptedSerializer(serializers.Serializer[Any]):
    cluster = ClusterDetailSerializer()
    report = CapabilitySerializer(many=True)


class HealthChangeSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    old = serializers.CharField()
    new = serializers.CharField()
    reason = serializers.CharField()


class NodeSerializer(serializers.ModelSerializer[Node]):
    """A node in a list; amounts are millicores, bytes and counts."""

    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    machine = serializers.SerializerMethodField()

    class Meta:
        model = Node
        fields: tuple[str, ...] = (
            "id",
            "url",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "name",
            "uid",
            "internal_ip",
            "roles",
            "is_ready",
            "not_ready_reason",
            "unschedulable",
            "cpu_capacity",
            "cpu_allocatable",
            "cpu_requested",
            "memory_capacity",
            "memory_allocatable",
            "memory_requested",
            "pods_allocatable",
            "pods_count",
            "kubelet_version",
            "runtime_version",
            "kernel_version",
            "os_image",
            "architecture",
            "system_uuid",
            "created_at",
            "observed_at",
            "machine",
        )
        read_only_fields = fields

    def get_machine(self, node: Node) -> int | None:
        """Key of the machine that is this node, if it is registered."""
        machine = getattr(node, "machine", None)
        return machine.pk if machine else None


class NodeDetailSerializer(NodeSerializer):
    class Meta(NodeSerializer.Meta):
        fields = (
            *NodeSerializer.Meta.fields,
            "resource_version",
            "addresses",
            "labels",
            "annotations",
            "taints",
            "conditions",
            "resources",
            "pod_cidrs",
        )
        read_only_fields = fields


class CordonSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=500)
    break_glass = serializers.BooleanField(
        default=False,
        help_text="In spite of maintenance windows and freezes; needs the right `approve`.",
    )


def _visible_clusters(user: Any) -> QuerySet[Cluster]:
    return permissions.visible_to(user, Cluster.objects.all())


class GrantSerializer(serializers.ModelSerializer[ClusterGrant]):
    """A role of a team on a cluster, or on every cluster with a label ``key=value``."""

    team = serializers.PrimaryKeyRelatedField(queryset=Group.objects.all())
    team_name = serializers.CharField(source="team.name", read_only=True)
    cluster = ChosenField(
        queryset=Cluster.objects.all(), among=_visible_clusters, required=False, allow_null=True
    )
    cluster_name = serializers.CharField(source="cluster.name", read_only=True, allow_null=True)
    cluster_insecure_tls = serializers.BooleanField(
        source="cluster.insecure_tls", read_only=True, allow_null=True
    )

    class Meta:
        model = ClusterGrant
        fields = (
            "id",
            "url",
            "team",
            "team_name",
            "role",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "label",
            "created_at",
        )
        read_only_fields = ("created_at",)
        validators: list[Any] = []  # the service answers with a Conflict and its own sentence
        extra_kwargs = {"label": {"required": False}}


def report(findings: Findings) -> dict[str, Any]:
    """The findings in the shape of ``ReportSerializer``."""
    return {
        "ok": findings.error is None,
        "steps": findings.steps,
        "capabilities": findings.capabilities,
    }
