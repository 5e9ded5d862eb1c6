"""Operations over HTTP: read, start, control, follow."""

from typing import Any, ClassVar, cast

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db.models import Prefetch, QuerySet
from django.http import HttpResponseBase, StreamingHttpResponse
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions, streaming
from beidou.base.api.pages import NewestFirst
from beidou.base.api.streams import EventStreamRenderer, PlainTextRenderer
from beidou.base.api.viewsets import ReadOnlyViewSet
from beidou.base.errors import InvalidInput, shorten
from beidou.base.models import User
from beidou.base.numbers import as_number
from clusters.services import creation
from operations.api import serializers
from operations.api.filters import OperationFilter
from operations.kinds import base as kinds
from operations.models import Attempt, MachineStep, Operation, OperationMachine
from operations.services import (
    asking,
    broadcast,
    control,
    create_cluster,
    download,
    estimates,
    lines,
    listing,
    live,
    plans,
    queue,
    references,
    start,
    watching,
)

_QUEUE_MAX = 500
_TAIL = 1000
_TAIL_MAX = 100_000


class OperationViewSet(ReadOnlyViewSet):
    """Operations: what was asked for, how far it is, and the verbs to steer it.

    Which right a verb needs is the kind's own matter, so ``control`` is asked; ``rights`` say what
    seeing the operation is enough for.
    """

    queryset = Operation.objects.all()
    serializer_class = serializers.OperationSerializer
    filterset_class = OperationFilter
    search_fields = ["name", "reason", "requested_by_name"]
    pagination_class = NewestFirst
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = dict.fromkeys(
        ("cancel", "pause", "resume", "retry", "skip", "priority", "break_glass")
        + ("output", "download", "events", "live"),
        permissions.VIEW,
    )

    def get_queryset(self) -> QuerySet[Any]:
        rows = listing.with_counts(super().get_queryset())
        if self.action != "retrieve":
            return rows
        cells = MachineStep.objects.select_related("step").order_by("step__position")
        members = OperationMachine.objects.order_by("pk")
        return rows.prefetch_related(
            "steps", Prefetch("machines", members.prefetch_related(Prefetch("cells", cells)))
        )

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action == "retrieve":
            return serializers.OperationDetailSerializer
        return super().get_serializer_class()

    def get_object(self) -> Any:
        operation = super().get_object()
        if self.action == "retrieve":
            _add_times(operation)
        return operation

    @extend_schema(
        request=serializers.StartSerializer,
        responses={202: serializers.OperationSerializer, 200: serializers.PlanSerializer},
    )
    def create(self, request: Request) -> Response:
        """Start an operation (202, ``Location`` leads to it), or see its plan (``dry_run``)."""
        wish = serializers.StartSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked: dict[str, Any] = dict(wish.validated_data)
        cluster = references.find_cluster(asked.pop("cluster"), user=request.user)
        chosen = references.find_machines(asked.pop("machines"), user=request.user)
        machines = chosen.machines or start.machines_of(asked["kind"], cluster, user=_user(request))
        common: dict[str, Any] = {
            "cluster": cluster,
            "machines": machines,
            "roles": chosen.roles,
            "acting_user": _user(request),
        }
        if asked.pop("dry_run"):
            plan = start.plan_operation(kind=asked["kind"], params=asked["params"], **common)
            return Response(serializers.PlanSerializer(plans.as_dict(plan)).data)
        operation = start.start_operation(**asked, **common)
        return self._accepted(operation)

    @extend_schema(
        request=serializers.CreateClusterSerializer,
        responses={202: serializers.OperationSerializer, 200: serializers.PlanSerializer},
    )
    @action(detail=False, methods=["post"], url_path="create-cluster")
    def create_cluster(self, request: Request) -> Response:
        """Make a new cluster of free machines (202, ``Location`` leads to the operation), or see
        the plan (``dry_run``).  Needs the permission to add clusters."""
        # Before the body is read: whoever may not create learns no keys of teams from it.
        creation.require_may_create(_user(request))
        given = serializers.CreateClusterSerializer(data=request.data, context={"request": request})
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        wish = given.to_wish(request.user)
        if asked["dry_run"]:
            plan = create_cluster.plan(wish=wish, acting_user=_user(request))
            return Response(serializers.PlanSerializer(plans.as_dict(plan)).data)
        operation = create_cluster.create(
            wish=wish, acting_user=_user(request), reason=asked["reason"], forks=asked["forks"]
        )
        return self._accepted(operation)

    @extend_schema(
        parameters=[
            OpenApiParameter("page", int, description="Of the waiting ones, from 1."),
            OpenApiParameter("page_size", int, description="At most 500; 50 by default."),
        ],
        responses=serializers.QueueSerializer,
        filters=False,
    )
    @action(detail=False, methods=["get"], pagination_class=None, filter_backends=[])
    def queue(self, request: Request) -> Response:
        """What waits in which order and for what, what runs, and how much of the limits is in
        use."""
        size = _number(request, "page_size") or queue.PAGE
        found = queue.look(
            request.user, page=_number(request, "page") or 1, page_size=min(size, _QUEUE_MAX)
        )
        return Response(
            serializers.QueueSerializer(found, context=self.get_serializer_context()).data
        )

    def _accepted(self, operation: Operation) -> Response:
        fresh = listing.with_counts(Operation.objects.filter(pk=operation.pk)).get()
        data = serializers.OperationSerializer(fresh, context=self.get_serializer_context()).data
        return Response(data, status=status.HTTP_202_ACCEPTED, headers={"Location": data["url"]})

    def _to_steer(self, request: Request) -> Operation:
        """The operation, before the body is read: whoever may not steer it is told that first."""
        operation: Operation = self.get_object()
        control.require_right(operation, _user(request))
        return operation

    def _reason(self, request: Request) -> str:
        wish = serializers.ReasonSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        reason: str = wish.validated_data["reason"]
        return reason

    @extend_schema(
        request=serializers.ReasonSerializer, responses={202: serializers.OperationSerializer}
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str = "") -> Response:
        """End it as soon as possible, also in the middle of a step."""
        operation = self._to_steer(request)
        reason = self._reason(request)
        return self._accepted(control.cancel(operation, acting_user=_user(request), reason=reason))

    @extend_schema(
        request=serializers.ReasonSerializer, responses={202: serializers.OperationSerializer}
    )
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str = "") -> Response:
        """Begin no further step; the running one is finished."""
        operation = self._to_steer(request)
        reason = self._reason(request)
        return self._accepted(control.pause(operation, acting_user=_user(request), reason=reason))

    @extend_schema(
        request=serializers.ReasonSerializer, responses={202: serializers.OperationSerializer}
    )
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str = "") -> Response:
        """Go on after a pause."""
        operation = self._to_steer(request)
        reason = self._reason(request)
        return self._accepted(control.resume(operation, acting_user=_user(request), reason=reason))

    @extend_schema(
        request=serializers.NeededReasonSerializer, responses={202: serializers.OperationSerializer}
    )
    @action(detail=True, methods=["post"], url_path="break-glass")
    def break_glass(self, request: Request, pk: str = "") -> Response:
        """Let it begin in spite of maintenance windows and freezes; needs the right `approve`."""
        operation = self._to_steer(request)
        wish = serializers.NeededReasonSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        return self._accepted(
            control.break_glass(
                operation, acting_user=_user(request), reason=wish.validated_data["reason"]
            )
        )

    @extend_schema(
        request=serializers.PrioritySerializer, responses={202: serializers.OperationSerializer}
    )
    @action(detail=True, methods=["post"])
    def priority(self, request: Request, pk: str = "") -> Response:
        """Change the priority of one that waits; `high` needs the right `approve`."""
        operation = self._to_steer(request)
        wish = serializers.PrioritySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        return self._accepted(
            control.change_priority(operation, acting_user=_user(request), **wish.validated_data)
        )

    @extend_schema(
        request=serializers.RetrySerializer, responses={202: serializers.OperationSerializer}
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str = "") -> Response:
        """Do again what failed or was canceled, each machine from the step where it stands."""
        operation = self._to_steer(request)
        wish = serializers.RetrySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        named = wish.validated_data.get("machines")
        machines = None if named is None else references.members_of(operation, named)
        return self._accepted(
            control.retry(
                operation,
                acting_user=_user(request),
                machines=machines,
                reason=wish.validated_data["reason"],
                answers=wish.validated_data["answers"],
                seen=wish.validated_data["seen"],
            )
        )

    @extend_schema(
        request=serializers.SkipSerializer, responses={202: serializers.OperationSerializer}
    )
    @action(detail=True, methods=["post"])
    def skip(self, request: Request, pk: str = "") -> Response:
        """Take the failed step of these machines as passed, for the reason given, and go on."""
        operation = self._to_steer(request)
        wish = serializers.SkipSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        return self._accepted(
            control.skip(
                operation,
                acting_user=_user(request),
                step=wish.validated_data["step"],
                machines=references.members_of(operation, wish.validated_data["machines"]),
                reason=wish.validated_data["reason"],
            )
        )

    @extend_schema(
        parameters=[
            OpenApiParameter("after", int, description="Lines behind this one, forwards."),
            OpenApiParameter(
                "before", int, description="The last lines ahead of this one; 0: of all."
            ),
            OpenApiParameter("limit", int, description="At most 5000; 1000 by default."),
            OpenApiParameter("machine", int, description="Key within the operation."),
            OpenApiParameter("failed", bool, description="Only machines that have failed."),
        ],
        responses=serializers.OutputSerializer,
        filters=False,
    )
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def output(self, request: Request, pk: str = "") -> Response:
        """A piece of the output; continue with ``after`` (forwards) or ``before`` (backwards)."""
        operation = self.get_object()
        wanted = self._wanted(request, operation)
        limit = min(max(_number(request, "limit") or 1000, 1), lines.LIMIT_MAX)
        before = _number(request, "before")
        if before is not None:
            piece = lines.backwards(operation, before=before or None, limit=limit, wanted=wanted)
        else:
            piece = lines.forwards(
                operation, after=_number(request, "after") or 0, limit=limit, wanted=wanted
            )
        return Response(serializers.OutputSerializer(piece).data)

    def _wanted(self, request: Request, operation: Operation) -> lines.Wanted:
        machine = _number(request, "machine")
        if machine and not operation.machines.filter(pk=machine).exists():
            sentence = references.not_of_operation(machine, operation)
            raise InvalidInput(sentence, code="unknown_machine", fields={"machine": sentence})
        only_failed = request.query_params.get("failed", "").lower() in ("1", "true", "yes")
        return lines.wanted_by(operation, machine=machine or None, only_failed=only_failed)

    @extend_schema(
        parameters=[
            OpenApiParameter("machine", int, description="Key within the operation."),
            OpenApiParameter("failed", bool, description="Only machines that have failed."),
        ],
        responses={(200, "text/plain"): OpenApiTypes.STR},
        filters=False,
    )
    @action(
        detail=True,
        methods=["get"],
        url_path="output/download",
        renderer_classes=[PlainTextRenderer],
        pagination_class=None,
        filter_backends=[],
    )
    def download(self, request: Request, pk: str = "") -> HttpResponseBase:
        """The whole output as a text file."""
        operation = self.get_object()
        text = download.text_of(operation, wanted=self._wanted(request, operation))
        is_async = isinstance(request._request, ASGIRequest)
        response = StreamingHttpResponse(
            streaming.in_pieces(text) if is_async else text,
            content_type="text/plain; charset=utf-8",
        )
        response["Content-Disposition"] = f'attachment; filename="{operation.name}.txt"'
        return response

    @extend_schema(
        parameters=[
            OpenApiParameter("after", int, description="The last line you have."),
            OpenApiParameter("tail", int, description="Begin with so many of the newest lines."),
            OpenApiParameter("Last-Event-ID", int, OpenApiParameter.HEADER),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                OpenApiTypes.STR,
                description="Events `snapshot` (whole), `change` (rows that changed), `output` "
                "(arrays of number, milliseconds, machine, level, text; the event's id is the "
                "last number), `end`. Connect again with Last-Event-ID to continue.",
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
        """State and output as they come (server-sent events); ends with the operation."""
        operation = self.get_object()
        after = as_number(request.headers.get("Last-Event-ID", ""))
        if after is None:
            after = _number(request, "after")
        tail = _number(request, "tail")
        return streaming.answer(
            request._request,
            broadcast.stream(
                operation.pk,
                after=after,
                tail=min(_TAIL if tail is None else tail, _TAIL_MAX),
                may_still_see=watching.checker(
                    request._request,
                    user=request.user,
                    auth=request.auth,
                    operation_id=operation.pk,
                ),
                language=get_language() or settings.LANGUAGE_CODE,
            ),
        )

    @extend_schema(responses=OpenApiTypes.OBJECT, filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def live(self, request: Request, pk: str = "") -> Response:
        """The snapshot with which the event stream begins, for those who cannot hold a stream."""
        operation = self.get_object()
        expected = live.expected_seconds(operation, operation.machines_total)
        taken = live.snapshot(operation.pk, expected=expected)
        return Response(taken.as_dict() if taken else {})


def _user(request: Request) -> User:
    """The signed-in user; the permission class lets nobody else through."""
    return cast(User, request.user)


def _number(request: Request, name: str) -> int | None:
    """A query parameter that must be a number of at least 0."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return None
    number = as_number(text)
    if number is None:
        sentence = _("%(name)s must be a number of at least 0, not “%(text)s”.") % {
            "name": name,
            "text": shorten(text, 100),
        }
        raise InvalidInput(sentence, fields={name: sentence})
    return number


def _add_times(operation: Any) -> None:
    """What lists do not need: attempts, the estimate and what is left of it."""
    operation.attempts = list(
        Attempt.objects.filter(step__operation=operation).select_related("step").order_by("pk")
    )
    seconds, runs = estimates.duration_of(
        operation.kind, operation.machines_total, operation.params
    )
    operation.estimate = (
        {"low": seconds[0], "high": seconds[1], "earlier_runs": runs} if seconds else None
    )
    operation.remaining_seconds = live.remaining_seconds(
        operation, live.expected_seconds(operation, operation.machines_total)
    )
    operation.seen = asking.seen_of(operation)


class KindViewSet(viewsets.ViewSet):
    """The kinds of operations there are, with the JSON schema of their parameters."""

    permission_classes = [IsAuthenticated]
    rights: ClassVar[dict[str, str]] = {}

    @extend_schema(responses=serializers.KindSerializer(many=True))
    def list(self, request: Request) -> Response:
        rows = [plans.kind_as_dict(kind) for _, kind in sorted(kinds.KINDS.items())]
        return Response(serializers.KindSerializer(rows, many=True).data)
