"""Clusters, their nodes as Kubernetes reports them, credentials and grants.

What people edit (name, environment, contact …) goes through ``save`` and has history; what the
collector observes is written by bulk upsert and has none.  Three questions have three fields:
``phase`` (where the cluster is in its life), ``health`` (what was last observed) and the operations
that run on it (a query).
"""

from typing import ClassVar

from django.contrib.auth.models import Group
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _
from guardian.models import GroupObjectPermissionBase
from simple_history.models import HistoricalRecords

from beidou.base.fields import EncryptedTextField
from beidou.base.folded import Folded
from beidou.base.permissions import ROLE_LABELS, Access
from beidou.base.sentence_fields import SentenceField, SentencesField
from beidou.base.state import Stateful, StatusChange

# Providers build long ones; what is cut off is their build, never the numbers.
VERSION_LENGTH = 40
name_validator = RegexValidator(
    r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$",
    _("Small letters, digits, dots and hyphens; at most 63; letters or digits at both ends."),
)


class Cluster(Stateful):
    """One Kubernetes cluster, adopted or created here.

    PENDING -> PROVISIONING | FAILED          (created here)
    PROVISIONING -> RUNNING | FAILED          (see docs/adr/0012)
    RUNNING -> UPDATING | DELETING
    UPDATING -> RUNNING | FAILED
    FAILED -> PROVISIONING | RUNNING | DELETING
    DELETING -> DELETED                       (see docs/adr/0013)
    An adopted cluster is created in RUNNING.
    """

    access = Access(cluster="")
    STATUS_FIELD = "phase"

    class Type(models.TextChoices):
        NATIVE = "native", _("native")
        ADOPTED = "adopted", _("adopted")
        MANAGED = "managed", _("managed by a provider")

    class Environment(models.TextChoices):
        PRODUCTION = "production", _("production")
        STAGING = "staging", _("staging")
        TEST = "test", _("test")
        DEVELOPMENT = "development", _("development")

    class Phase(models.TextChoices):
        PENDING = "pending", _("pending")
        PROVISIONING = "provisioning", _("provisioning")
        RUNNING = "running", _("running")
        UPDATING = "updating", _("updating")
        DELETING = "deleting", _("deleting")
        DELETED = "deleted", _("deleted")
        FAILED = "failed", _("failed")

    TRANSITIONS = {
        Phase.PENDING: frozenset({Phase.PROVISIONING, Phase.FAILED}),
        Phase.PROVISIONING: frozenset({Phase.RUNNING, Phase.FAILED}),
        Phase.RUNNING: frozenset({Phase.UPDATING, Phase.DELETING}),
        Phase.UPDATING: frozenset({Phase.RUNNING, Phase.FAILED}),
        Phase.FAILED: frozenset({Phase.PROVISIONING, Phase.RUNNING, Phase.DELETING}),
        Phase.DELETING: frozenset({Phase.DELETED}),
        Phase.DELETED: frozenset(),
    }

    UNMADE = frozenset({Phase.PENDING, Phase.PROVISIONING})
    """Not there yet."""
    UNWATCHED = UNMADE | {Phase.DELETING, Phase.DELETED}
    """Not there yet or no more: that nothing is known of it is no trouble."""

    class Health(models.TextChoices):
        HEALTHY = "healthy", _("Healthy")
        DEGRADED = "degraded", _("Degraded")
        UNREACHABLE = "unreachable", _("Unreachable")
        UNKNOWN = "unknown", _("Not yet observed")

    name = models.CharField(_("name"), max_length=63, unique=True, validators=[name_validator])
    description = models.TextField(_("description"), blank=True)
    environment = models.CharField(
        _("environment"), max_length=20, choices=Environment.choices, blank=True
    )
    region = models.CharField(_("region"), max_length=63, blank=True)
    labels = models.JSONField(_("labels"), default=dict, blank=True)
    team = models.ForeignKey(
        Group,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("owner team"),
        help_text=_("Whom to ask; rights come from grants alone."),
    )
    contact = models.CharField(_("contact"), max_length=200, blank=True)

    type = models.CharField(
        _("type"), max_length=10, choices=Type.choices, default=Type.ADOPTED, editable=False
    )
    uid = models.CharField(
        _("identity"),
        max_length=64,
        unique=True,
        editable=False,
        help_text=_("UID of the namespace kube-system."),
    )
    server = models.CharField(_("API server"), max_length=500, editable=False)
    insecure_tls = models.BooleanField(_("TLS not verified"), default=False, editable=False)
    version = models.CharField(_("version"), max_length=VERSION_LENGTH, blank=True, editable=False)
    phase = models.CharField(
        _("phase"), max_length=16, choices=Phase.choices, default=Phase.RUNNING, editable=False
    )
    pod_cidr = models.CharField(_("pod network"), max_length=200, blank=True, editable=False)
    service_cidr = models.CharField(
        _("service network"), max_length=200, blank=True, editable=False
    )
    capabilities = SentencesField(_("capabilities"), default=list, blank=True, editable=False)
    created_at = models.DateTimeField(_("adopted"), auto_now_add=True)

    # Observed: written by the collector only, never through save().
    health = models.CharField(
        _("health"), max_length=12, choices=Health.choices, default=Health.UNKNOWN, editable=False
    )
    health_reason = SentenceField(_("reason"), limit=500, blank=True, editable=False)
    health_since = models.DateTimeField(_("health since"), null=True, editable=False)
    checked_at = models.DateTimeField(_("checked"), null=True, editable=False)
    observed_at = models.DateTimeField(
        _("as of"), null=True, editable=False, help_text=_("When the figures were last confirmed.")
    )
    sums_at = models.DateTimeField(_("sums as of"), null=True, editable=False)
    nodes_total = models.PositiveIntegerField(_("nodes"), default=0, editable=False)
    nodes_ready = models.PositiveIntegerField(_("nodes ready"), default=0, editable=False)
    cpu_allocatable = models.BigIntegerField(
        _("CPU allocatable, millicores"), default=0, editable=False
    )
    cpu_requested = models.BigIntegerField(
        _("CPU requested, millicores"), default=0, editable=False
    )
    memory_allocatable = models.BigIntegerField(
        _("memory allocatable, bytes"), default=0, editable=False
    )
    memory_requested = models.BigIntegerField(
        _("memory requested, bytes"), default=0, editable=False
    )
    pods_allocatable = models.BigIntegerField(_("pods allocatable"), default=0, editable=False)
    pods_count = models.BigIntegerField(_("pods"), default=0, editable=False)
    workloads = SentencesField(_("workloads"), default=dict, editable=False)
    components = SentencesField(_("components"), default=list, editable=False)
    server_certificate_expires_at = models.DateTimeField(
        _("API server certificate expires"), null=True, editable=False
    )

    OBSERVED: ClassVar[tuple[str, ...]] = (
        "health",
        "health_reason",
        "health_since",
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
        "workloads",
        "components",
        "server_certificate_expires_at",
    )
    history = HistoricalRecords(excluded_fields=["phase", "capabilities", *OBSERVED])

    class Meta:
        verbose_name = _("cluster")
        verbose_name_plural = _("clusters")
        ordering = ["name"]
        permissions = [
            ("operate_cluster", "May run operations"),
            ("inspect_cluster", "May run inspections"),
            ("deploy_cluster", "May deploy applications"),
            ("approve_cluster", "May approve operations of others"),
        ]
        indexes = [models.Index(fields=["health"])]

    def __str__(self) -> str:
        return self.name

    @property
    def is_unmade(self) -> bool:
        """It is being created: neither well nor unwell."""
        return self.phase in self.UNMADE

    @property
    def is_watched(self) -> bool:
        """Whether its health says anything."""
        return self.phase not in self.UNWATCHED

    @property
    def is_deleted(self) -> bool:
        """Its machines are free; what is kept of it are its operations and its audit trail."""
        return self.phase == self.Phase.DELETED

    @property
    def is_stale(self) -> bool:
        """The figures are those of an earlier time, because the cluster does not answer."""
        return self.health == self.Health.UNREACHABLE

    def can(self, capability: str) -> bool:
        """Whether the capability report says ``capability`` will work."""
        return any(row.get("key") == capability and row.get("ok") for row in self.capabilities)


class ClusterStatusChange(StatusChange):
    """A change of a cluster's phase."""

    access = Access(cluster="subject")
    subject = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="status_changes")


class HealthChange(StatusChange):
    """A change of a cluster's observed health."""

    access = Access(cluster="subject")
    subject = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="health_changes")


class ClusterCredential(models.Model):
    """How the portal signs in at a cluster: write-only, encrypted, apart from the cluster's row."""

    cluster = models.OneToOneField(Cluster, on_delete=models.CASCADE, related_name="credential")
    kubeconfig = EncryptedTextField()
    subject = models.CharField(_("signed in as"), max_length=300, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("cluster credential")
        verbose_name_plural = _("cluster credentials")

    def __str__(self) -> str:
        return self.subject or f"credential of {self.cluster_id}"


class Collector(models.Model):
    """A running collector process, known by its heartbeat; clusters are shared out among them."""

    name = models.CharField(max_length=100, unique=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.name


class CollectorLease(models.Model):
    """Which collector watches a cluster: taken by compare-and-set, given up by time."""

    cluster = models.OneToOneField(Cluster, on_delete=models.CASCADE, related_name="lease")
    holder = models.CharField(max_length=100, blank=True, db_index=True)
    until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.cluster_id}: {self.holder}"


class Node(models.Model):
    """The Node object as Kubernetes reports it; written only by the collector, by bulk upsert."""

    access = Access(cluster="cluster")

    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="nodes", verbose_name=_("cluster")
    )
    name = models.CharField(_("name"), max_length=253)
    uid = models.CharField(max_length=64)
    resource_version = models.CharField(max_length=32, blank=True)
    internal_ip = models.CharField(_("address"), max_length=45, blank=True, db_index=True)
    addresses = models.JSONField(_("addresses"), default=list)
    roles = models.JSONField(_("roles"), default=list)
    labels = models.JSONField(_("labels"), default=dict)
    annotations = models.JSONField(_("annotations"), default=dict)
    taints = models.JSONField(_("taints"), default=list)
    conditions = models.JSONField(_("conditions"), default=list)
    is_ready = models.BooleanField(_("ready"), default=False, db_index=True)
    not_ready_reason = SentenceField(_("reason"), limit=300, blank=True)
    unschedulable = models.BooleanField(_("cordoned"), default=False, db_index=True)
    cpu_capacity = models.BigIntegerField(_("CPU, millicores"), default=0)
    cpu_allocatable = models.BigIntegerField(_("CPU allocatable, millicores"), default=0)
    cpu_requested = models.BigIntegerField(_("CPU requested, millicores"), default=0)
    memory_capacity = models.BigIntegerField(_("memory, bytes"), default=0)
    memory_allocatable = models.BigIntegerField(_("memory allocatable, bytes"), default=0)
    memory_requested = models.BigIntegerField(_("memory requested, bytes"), default=0)
    pods_allocatable = models.IntegerField(_("pods allocatable"), default=0)
    pods_count = models.IntegerField(_("pods"), default=0)
    resources = models.JSONField(
        _("other resources"), default=dict, help_text=_("GPUs, huge pages … allocatable.")
    )
    kubelet_version = models.CharField(_("kubelet"), max_length=40, blank=True)
    runtime_version = models.CharField(_("runtime"), max_length=80, blank=True)
    kernel_version = models.CharField(_("kernel"), max_length=120, blank=True)
    os_image = models.CharField(_("operating system"), max_length=120, blank=True)
    architecture = models.CharField(_("architecture"), max_length=20, blank=True)
    system_uuid = models.CharField(_("system UUID"), max_length=64, blank=True, db_index=True)
    pod_cidrs = models.JSONField(_("pod ranges"), default=list)
    created_at = models.DateTimeField(_("joined"), null=True)
    observed_at = models.DateTimeField(_("as of"))

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")
        ordering = ["cluster__name", "name"]
        indexes = [models.Index(Folded("name"), name="nodes_folded_name")]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "name"], name="one_node_per_name_and_cluster"
            )
        ]

    def __str__(self) -> str:
        return self.name


class NamespaceUsage(models.Model):
    """Pods summed per node and namespace; ``node`` is empty for pods that no node has."""

    access = Access(cluster="cluster")

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="usage")
    node = models.CharField(_("node"), max_length=253, blank=True)
    namespace = models.CharField(_("namespace"), max_length=63)
    pods = models.IntegerField(_("pods"), default=0)
    phases = models.JSONField(_("phases"), default=dict)
    cpu_requested = models.BigIntegerField(_("CPU requested, millicores"), default=0)
    cpu_limit = models.BigIntegerField(_("CPU limit, millicores"), default=0)
    memory_requested = models.BigIntegerField(_("memory requested, bytes"), default=0)
    memory_limit = models.BigIntegerField(_("memory limit, bytes"), default=0)

    class Meta:
        verbose_name = _("usage of a namespace")
        verbose_name_plural = _("usage of namespaces")
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "node", "namespace"], name="one_usage_per_node_and_namespace"
            )
        ]

    def __str__(self) -> str:
        return f"{self.namespace} on {self.node or 'no node'}"


class ClusterGroupObjectPermission(GroupObjectPermissionBase):
    """guardian's rows for clusters with a real foreign key: indexed, and gone with the cluster."""

    content_object = models.ForeignKey(Cluster, on_delete=models.CASCADE)


class ClusterGrant(models.Model):
    """A team's role on one cluster, or on every cluster whose labels match.

    Grants are what people edit; ``services.grants`` derives guardian's object permissions from
    them.
    """

    class Role(models.TextChoices):
        VIEWER = ROLE_LABELS[0]
        OPERATOR = ROLE_LABELS[1]
        DEPLOYER = ROLE_LABELS[2]
        OWNER = ROLE_LABELS[3]

    access = Access(cluster="cluster")

    team = models.ForeignKey(
        Group, on_delete=models.CASCADE, related_name="cluster_grants", verbose_name=_("team")
    )
    role = models.CharField(_("role"), max_length=10, choices=Role.choices)
    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="grants",
        verbose_name=_("cluster"),
    )
    label = models.CharField(
        _("cluster label"),
        max_length=130,
        blank=True,
        help_text=_("key=value; instead of a cluster: every cluster that carries this label."),
    )
    created_at = models.DateTimeField(_("granted"), auto_now_add=True)

    class Meta:
        verbose_name = _("grant")
        verbose_name_plural = _("grants")
        ordering = ["team__name", "cluster__name", "label"]
        constraints = [
            models.CheckConstraint(
                name="grant_names_a_cluster_or_a_label",
                condition=(
                    models.Q(cluster__isnull=False, label="")
                    | (models.Q(cluster__isnull=True) & ~models.Q(label=""))
                ),
            ),
            # Two, because SQLite takes one NULL for another than the next.
            models.UniqueConstraint(
                fields=["team", "role", "cluster"],
                condition=models.Q(cluster__isnull=False),
                name="one_grant_per_team_role_and_cluster",
                violation_error_message=_("This team has this role there already."),
            ),
            models.UniqueConstraint(
                fields=["team", "role", "label"],
                condition=models.Q(cluster__isnull=True),
                name="one_grant_per_team_role_and_label",
                violation_error_message=_("This team has this role there already."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.team} · {self.get_role_display()} · {self.cluster or self.label}"
