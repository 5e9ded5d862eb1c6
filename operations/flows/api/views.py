"""Tasks over HTTP: read, start, control, decide, follow."""

from typing import Any, ClassVar, cast

import django_filters
from django.conf import settings
from django.db.models import Prefetch, QuerySet
from django.http import HttpResponseBase
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions, streaming
from beidou.base.api.pages import NewestFirst
from beidou.base.api.streams import EventStreamRenderer
from beidou.base.api.viewsets import ReadOnlyViewSet
from beidou.base.errors import InvalidInput
from beidou.base.models import User
from beidou.base.numbers import as_key
from clusters.services import creation
from machines.models import Machine
from operations.api.serializers import PlanSerializer, ReasonSerializer
from operations.flows import catalog, control, creating, graph, listing, live, start, stream
from operations.flows.api import serializers
from operations.flows.library import finding
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep, WorkOrder
from operations.services import create_cluster, plans, references, watching


class TaskFilter(django_filters.FilterSet):
    cluster = django_filters.CharFilter(method="by_cluster", label="Name or key of the cluster.")
    template = django_filters.CharFilter()
    status = django_filters.MultipleChoiceFilter(choices=AutoOperationTask.Status.choices)
    active = django_filters.BooleanFilter(method="by_active", label="Not ended yet.")
    requested_by = django_filters.CharFilter(field_name="requested_by_name")

    class Meta:
        model = AutoOperationTask
        fields: list[str] = ["name"]

    def by_cluster(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        if (key := as_key(value)) is not None:
            return rows.filter(cluster_id=key)
        return rows.filter(cluster__name=value)

    def by_active(self, rows: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        condition = {"status__in": AutoOperationTask.ACTIVE}
        return rows.filter(**condition) if value else rows.exclude(**condition)


class TaskViewSet(ReadOnlyViewSet):
    """One-click tasks: what was asked for, how far it is, and the verbs to steer and decide.

    The services ask for the right of each verb; here only seeing counts.
    """

    queryset = AutoOperationTask.objects.all()
    serializer_class = serializers.TaskSerializer
    filterset_class = TaskFilter
    search_fields = ["name", "reason", "requested_by_name"]
    pagination_class = NewestFirst
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "cancel",
            "pause",
            "resume",
            "retry",
            "skip",
            "approve",
            "reject",
            "withdraw",
            "events",
            "live",
        ),
        permissions.VIEW,
    )

    def get_queryset(self) -> QuerySet[Any]:
        rows = listing.with_counts(super().get_queryset())
        if self.action != "retrieve":
            return rows
        orders = WorkOrder.objects.order_by("number")
        steps = TaskStep.objects.order_by("position").prefetch_related(
            "parts", "children", Prefetch("orders", orders)
        )
        return rows.prefetch_related(
            Prefetch("steps", steps), Prefetch("machines", TaskMachine.objects.order_by("pk"))
        )

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action == "retrieve":
            return serializers.TaskDetailSerializer
        return super().get_serializer_class()

    @extend_schema(
        request=serializers.StartTaskSerializer,
        responses={202: serializers.TaskSerializer, 200: serializers.TaskPlanSerializer},
    )
    def create(self, request: Request) -> Response:
        """Start a task (202, ``Location`` leads to it), or see what it would do (``dry_run``)."""
        wish = serializers.StartTaskSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked: dict[str, Any] = dict(wish.validated_data)
        cluster = references.find_cluster(asked["cluster"], user=request.user)
        chosen = references.find_machines(asked["machines"], user=request.user)
        template = _template(asked)
        common: dict[str, Any] = {
            "cluster": cluster,
            "machines": chosen.machines,
            "roles": chosen.roles,
            "replaced": _replaced(asked, request),
            "specs": _specs(asked, template),
            "acting_user": _user(request),
            "batches": start.Batches(**asked["batches"]) if "batches" in asked else None,
        }
        if asked["dry_run"]:
            plan = start.plan_task(**common)
            row = {
                "steps": [
                    {"key": each.key, "step": each.name, "needs": list(each.needs)}
                    for each in plan.specs
                ],
                "first": plans.as_dict(plan.first) if plan.first else None,
                "replaced": plans.as_dict(plan.plans[start.OLD])
                if start.OLD in plan.plans
                else None,
            }
            return Response(serializers.TaskPlanSerializer(row).data)
        task = start.start_task(
            **common,
            template=asked["template"],
            version=template.version if template else 0,
            params=asked["params"],
            name=asked["name"],
            reason=asked["reason"],
            priority=asked["priority"],
            leave_out_blocked=asked["leave_out_blocked"],
        )
        return self._accepted(task)

    @extend_schema(
        request=serializers.CreateClusterTaskSerializer,
        responses={202: serializers.TaskSerializer, 200: PlanSerializer},
    )
    @action(detail=False, methods=["post"], url_path="create-cluster")
    def create_cluster(self, request: Request) -> Response:
        """Make a new cluster once somebody else has approved it (202, ``Location`` leads to the
        task), or see the plan (``dry_run``).  Needs the permission to add clusters."""
        # Before the body is read: whoever may not create learns no keys of teams from it.
        creation.require_may_create(_user(request))
        given = serializers.CreateClusterTaskSerializer(
            data=request.data, context={"request": request}
        )
        given.is_valid(raise_exception=True)
        wish = given.to_wish(request.user)
        if given.validated_data["dry_run"]:
            plan = create_cluster.plan(wish=wish, acting_user=_user(request))
            return Response(PlanSerializer(plans.as_dict(plan)).data)
        reason = given.validated_data["reason"]
        return self._accepted(creating.begin(wish=wish, acting_user=_user(request), reason=reason))

    def _accepted(self, task: AutoOperationTask) -> Response:
        fresh = listing.with_counts(AutoOperationTask.objects.filter(pk=task.pk)).get()
        data = serializers.TaskSerializer(fresh, context=self.get_serializer_context()).data
        return Response(data, status=status.HTTP_202_ACCEPTED, headers={"Location": data["url"]})

    def _to_steer(self, request: Request) -> AutoOperationTask:
        """The task, before the body is read: whoever may not steer it is told that first."""
        task: AutoOperationTask = self.get_object()
        control.require_right(task, _user(request))
        return task

    def _controlled(self, request: Request, verb: Any) -> Response:
        task = self._to_steer(request)
        wish = ReasonSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        reason = wish.validated_data["reason"]
        return self._accepted(verb(task, acting_user=_user(request), reason=reason))

    @extend_schema(request=ReasonSerializer, responses={202: serializers.TaskSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str = "") -> Response:
        """End it as soon as possible, with the operations that it has begun."""
        return self._controlled(request, control.cancel)

    @extend_schema(request=ReasonSerializer, responses={202: serializers.TaskSerializer})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str = "") -> Response:
        """Begin no further step and no further batch; what runs is finished."""
        return self._controlled(request, control.pause)

    @extend_schema(request=ReasonSerializer, responses={202: serializers.TaskSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str = "") -> Response:
        """Go on after a pause."""
        return self._controlled(request, control.resume)

    @extend_schema(
        request=serializers.RetryTaskSerializer, responses={202: serializers.TaskSerializer}
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str = "") -> Response:
        """Go on from what failed or was canceled, or with the answer that it waits for."""
        task = self._to_steer(request)
        wish = serializers.RetryTaskSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        return self._accepted(
            control.retry(task, acting_user=_user(request), **wish.validated_data)
        )

    @extend_schema(
        request=serializers.SkipStepSerializer, responses={202: serializers.TaskSerializer}
    )
    @action(detail=True, methods=["post"])
    def skip(self, request: Request, pk: str = "") -> Response:
        """Take a failed step, or a wait, as passed."""
        task = self._to_steer(request)
        wish = serializers.SkipStepSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        return self._accepted(control.skip(task, acting_user=_user(request), **wish.validated_data))

    @extend_schema(
        request=serializers.ApprovalSerializer, responses={202: serializers.TaskSerializer}
    )
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str = "") -> Response:
        """Let exactly what was seen be done."""
        task, order, wish = self._decision(
            request, WorkOrder.Status.OPEN, serializers.ApprovalSerializer
        )
        control.approve(
            order, acting_user=_user(request), reason=wish["reason"], digest=wish["digest"]
        )
        return self._accepted(task)

    @extend_schema(
        request=serializers.DecisionSerializer, responses={202: serializers.TaskSerializer}
    )
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: str = "") -> Response:
        """Say no, with a reason."""
        task, order, wish = self._decision(request, WorkOrder.Status.OPEN)
        control.reject(order, acting_user=_user(request), reason=wish["reason"])
        return self._accepted(task)

    @extend_schema(
        request=serializers.DecisionSerializer, responses={202: serializers.TaskSerializer}
    )
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str = "") -> Response:
        """Take an approval back, with a reason; it asks again."""
        task, order, wish = self._decision(request, WorkOrder.Status.APPROVED)
        control.withdraw(order, acting_user=_user(request), reason=wish["reason"])
        return self._accepted(task)

    def _decision(
        self,
        request: Request,
        wanted: WorkOrder.Status,
        body: type[serializers.DecisionSerializer] = serializers.DecisionSerializer,
    ) -> tuple[AutoOperationTask, WorkOrder, dict[str, Any]]:
        """The work order that is meant: the named one, or the only one in this state."""
        task: AutoOperationTask = self.get_object()
        permissions.require(request.user, task, permissions.APPROVE)
        wish = body(data=request.data)
        wish.is_valid(raise_exception=True)
        rows = WorkOrder.objects.filter(step__task=task).select_related("step")
        if (key := wish.validated_data.get("order")) is not None:
            found = list(rows.filter(pk=key))
        else:
            found = list(rows.filter(status=wanted)[:2])
        if len(found) != 1:
            sentence = _("Name one of the task's work orders.")
            raise InvalidInput(sentence, code="unknown_order", fields={"order": sentence})
        return task, found[0], dict(wish.validated_data)

    @extend_schema(
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                OpenApiTypes.STR,
                description="Events `snapshot` (whole), `change` (rows that changed), `end`.",
            )
        },
        filters=False,
    )
    @action(
        detail=True,
        methods=["get"],
        renderer_classes=[EventStreamRenderer],
        pagination_class=None,
        filter_backends=[],
    )
    def events(self, request: Request, pk: str = "") -> HttpResponseBase:
        """The state as it changes (server-sent events); ends with the task."""
        task = self.get_object()
        return streaming.answer(
            request._request,
            stream.stream(
                task.pk,
                may_still_see=watching.checker(
                    request._request,
                    user=request.user,
                    auth=request.auth,
                    operation_id=task.pk,
                    model=AutoOperationTask,
                ),
                language=get_language() or settings.LANGUAGE_CODE,
            ),
        )

    @extend_schema(responses=OpenApiTypes.OBJECT, filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def live(self, request: Request, pk: str = "") -> Response:
        """The snapshot with which the event stream begins, for those who cannot hold a stream."""
        taken = live.snapshot(self.get_object().pk)
        return Response(taken.as_dict() if taken else {})


def _replaced(asked: dict[str, Any], request: Request) -> list[Machine]:
    try:
        return references.find_machines(asked.get("replaced", []), user=request.user).machines
    except InvalidInput as error:
        fields = {
            f"replaced{name.removeprefix('machines')}": said for name, said in error.fields.items()
        }
        raise InvalidInput(error.message, code=error.code, fields=fields) from error


def _template(asked: dict[str, Any]) -> catalog.Template | None:
    """None where a graph of one's own is all there is."""
    if "graph" in asked and not asked["template"]:
        return None
    found = finding.template(asked["template"], asked.get("template_version"))
    if "graph" in asked and found.content is not None:
        sentence = _("The template has a graph of its own; leave one of them out.")
        raise InvalidInput(sentence, code="fixed_steps", fields={"graph": sentence})
    return found


def _specs(asked: dict[str, Any], template: catalog.Template | None) -> list[graph.Spec]:
    if "graph" not in asked and template is not None:
        return start.specs_of(template, steps=asked.get("steps"), params=asked["params"])
    specs = []
    for index, row in enumerate(asked["graph"]):
        try:
            found = catalog.spec(row["step"], row["params"])
        except InvalidInput as error:
            place = f"graph[{index}].step"
            raise InvalidInput(
                f"{place}: {error.message}", code=error.code, fields={place: error.message}
            ) from error
        specs.append(
            graph.Spec(
                key=row["key"],
                name=found.name,
                kind=found.kind,
                params=found.params,
                needs=tuple(row["needs"]),
                on_failure=row["on_failure"],
                compensates=tuple(row["compensates"]),
            )
        )
    return specs if template is None else catalog.for_template(template, specs)


def _user(request: Request) -> User:
    """The signed-in user; the permission class lets nobody else through."""
    return cast(User, request.user)
