"""The shape of tasks in the API; rules are in the services."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.reverse import reverse

from beidou.base.api.strict import StrictSerializer
from operations.api.serializers import (
    CreateClusterSerializer,
    MachineReferenceField,
    ReasonSerializer,
    ReferenceField,
)
from operations.flows import catalog, graph, live, start
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep, WorkOrder
from operations.models import Operation


class TaskSerializer(serializers.ModelSerializer[AutoOperationTask]):
    """A task as lists show it."""

    url = serializers.HyperlinkedIdentityField(view_name="auto-operation-task-detail")
    display = serializers.CharField(source="__str__", read_only=True)
    page = serializers.SerializerMethodField()
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    machines_total = serializers.IntegerField(read_only=True)
    machines_failed = serializers.IntegerField(read_only=True)
    actions = serializers.SerializerMethodField()
    parent_task = serializers.IntegerField(
        source="parent.task_id",
        default=None,
        read_only=True,
        help_text="The task that it is a step of.",
    )

    class Meta:
        model = AutoOperationTask
        fields = [
            "id",
            "url",
            "page",
            "display",
            "name",
            "template",
            "template_version",
            "parent_task",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "status",
            "message",
            "waiting_for",
            "reason",
            "requested_by_name",
            "carried_by_name",
            "params",
            "batch_size",
            "batch_pause",
            "max_failed_percent",
            "priority",
            "machines_total",
            "machines_failed",
            "actions",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_page(self, task: AutoOperationTask) -> str:
        """Address of the live page."""
        return reverse(
            "admin:operations_autooperationtask_change",
            args=[task.pk],
            request=self.context.get("request"),
        )

    def get_actions(self, task: AutoOperationTask) -> list[str]:
        """What its state allows; whether one may is another question."""
        return list(live.actions_of(task.status, is_asking=task.is_asking))  # type: ignore[attr-defined]


class TaskMachineSerializer(serializers.ModelSerializer[TaskMachine]):
    class Meta:
        model = TaskMachine
        fields = [
            "id",
            "machine",
            "address",
            "hostname",
            "role",
            "group",
            "state",
            "failed_in",
            "message",
        ]
        read_only_fields = fields


class WorkOrderSerializer(serializers.ModelSerializer[WorkOrder]):
    """``plan`` is what exactly is asked, ``digest`` its hash, to be sent back with an approval."""

    changes = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = WorkOrder
        fields = [
            "id",
            "number",
            "status",
            "plan",
            "digest",
            "changes",
            "asked_at",
            "due_at",
            "decided_by_name",
            "decided_at",
            "reason",
        ]
        read_only_fields = fields


class TaskStepSerializer(serializers.ModelSerializer[TaskStep]):
    title = serializers.SerializerMethodField()
    operations = serializers.SerializerMethodField()
    tasks = serializers.SerializerMethodField()
    orders = WorkOrderSerializer(many=True, read_only=True)

    class Meta:
        model = TaskStep
        fields = [
            "id",
            "position",
            "key",
            "name",
            "title",
            "kind",
            "params",
            "needs",
            "on_failure",
            "compensates",
            "status",
            "message",
            "due_at",
            "operations",
            "tasks",
            "orders",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_title(self, step: TaskStep) -> str:
        return catalog.title_of(step)

    def get_operations(self, step: TaskStep) -> list[int]:
        """Keys of the operations it has begun, one per batch."""
        return [part.operation_id for part in step.parts.all() if part.operation_id]

    def get_tasks(self, step: TaskStep) -> list[int]:
        """Keys of the tasks that it has begun."""
        return [child.pk for child in step.children.all()]


class TaskDetailSerializer(TaskSerializer):
    steps = TaskStepSerializer(many=True, read_only=True)
    machines = TaskMachineSerializer(many=True, read_only=True)

    class Meta(TaskSerializer.Meta):
        fields = [*TaskSerializer.Meta.fields, "steps", "machines"]
        read_only_fields = fields


class GraphStepSerializer(StrictSerializer):
    """One step of a graph of one's own; ``step`` is one of the names there are."""

    key = serializers.CharField(max_length=40)
    step = serializers.CharField(max_length=40)
    params = serializers.DictField(default=dict)
    needs = serializers.ListField(child=serializers.CharField(max_length=40), default=list)
    on_failure = serializers.ChoiceField(
        choices=TaskStep.OnFailure.choices, default=TaskStep.OnFailure.STOP
    )
    compensates = serializers.ListField(child=serializers.CharField(max_length=40), default=list)


class BatchSerializer(StrictSerializer):
    """Of each step: all of its batches go through it before the next step begins."""

    size = serializers.IntegerField(
        min_value=0, max_value=start.MACHINES_MAX, default=0, help_text="0: all of them at once."
    )
    pause = serializers.IntegerField(min_value=0, max_value=7 * 86400, default=0)
    max_failed_percent = serializers.IntegerField(min_value=0, max_value=100, default=100)


class StartTaskSerializer(StrictSerializer):
    """``template`` with its own steps or these ``steps``, or a ``graph`` of one's own.

    ``params`` of a template of the site are given by the key of the step: ``{"join": {…}}``."""

    cluster = ReferenceField()
    machines = serializers.ListField(
        child=MachineReferenceField(), min_length=1, max_length=start.MACHINES_MAX
    )
    replaced = serializers.ListField(
        child=MachineReferenceField(),
        required=False,
        max_length=start.MACHINES_MAX,
        help_text="Machines that go out once the others are in; of the template ReplaceMachine.",
    )
    template = serializers.CharField(max_length=40, default="")
    template_version = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=(1 << 31) - 1,
        help_text="Of a template of the site; left out: the newest.",
    )
    steps = serializers.ListField(
        child=serializers.CharField(max_length=40), required=False, max_length=graph.STEPS_MAX
    )
    graph = GraphStepSerializer(many=True, required=False)
    params = serializers.DictField(default=dict)
    batches = BatchSerializer(required=False)
    priority = serializers.ChoiceField(
        choices=Operation.Priority.choices,
        default=Operation.Priority.NORMAL,
        help_text="Of all its operations; `high` needs the right `approve` on the cluster.",
    )
    name = serializers.RegexField(
        r"^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?$", default="", allow_blank=True
    )
    reason = serializers.CharField(max_length=500, default="", allow_blank=True)
    leave_out_blocked = serializers.BooleanField(default=False)
    dry_run = serializers.BooleanField(
        default=False, help_text="Answer with what would be done; start nothing."
    )


class CreateClusterTaskSerializer(CreateClusterSerializer):
    """A new cluster, made as the task CreateCluster: looked at, approved, made, proved."""

    forks = None  # type: ignore[assignment]  # of an operation that is begun by itself


class TaskPlanSerializer(serializers.Serializer[Any]):
    """``first``: what the first operation says of the machines, as the plan of an operation;
    ``replaced``: what ScaleDown says of those that are replaced."""

    steps = serializers.ListField(child=serializers.DictField())
    first = serializers.DictField(allow_null=True)
    replaced = serializers.DictField(allow_null=True)


@extend_schema_serializer(component_name="RetryTask")
class RetryTaskSerializer(ReasonSerializer):
    step = serializers.CharField(
        max_length=40,
        required=False,
        default="",
        allow_blank=True,
        help_text="Key of the step that the answers are for, where more than one takes some.",
    )
    answers = serializers.DictField(
        required=False,
        default=dict,
        help_text="Parameters of the step's operation to change, as with its own `retry`.",
    )
    seen = serializers.CharField(
        max_length=64,
        default="",
        allow_blank=True,
        help_text="Needed with an approval: `seen` of the step's operation, as it was looked at.",
    )


class SkipStepSerializer(StrictSerializer):
    step = serializers.CharField(max_length=40, help_text="Key of the step.")
    reason = serializers.CharField(max_length=500)


class DecisionSerializer(StrictSerializer):
    """``order``: key of the work order; may be left out when a single one is open.  ``digest``:
    what was seen; only an approval needs it."""

    order = serializers.IntegerField(required=False)
    reason = serializers.CharField(max_length=500, default="", allow_blank=True)
    digest = serializers.CharField(max_length=64, default="", allow_blank=True)


class ApprovalSerializer(DecisionSerializer):
    digest = serializers.CharField(
        max_length=64, help_text="Of what was seen; an approval of something else is refused."
    )
