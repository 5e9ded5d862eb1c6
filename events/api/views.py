"""The event centre over HTTP: search, count, look at one; how the events flow, for how long they
are kept, and the archive."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from django.http import Http404, HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.utils.urls import replace_query_param

from beidou.base.api.filters import Backend, OneOrder
from beidou.base.api.streams import EventStreamRenderer
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from beidou.base.errors import InvalidInput, shorten
from beidou.base.models import User
from beidou.base.numbers import as_number
from beidou.base.permissions import CHANGE
from clusters.models import Cluster
from events.api import serializers
from events.models import Event, EventRestore, EventRetention, EventSegment, EventStream
from events.services import asked, key_events, restoring, retention, search, tail
from events.services.measures import ALL
from events.services.search import FIELDS, Cursor, FoundEvent, Scope

PAGE, PAGE_MAX = 100, 500
VALUES, VALUES_MAX = 10, 100
COUNTED = ("cluster", *FIELDS)
TEXT = OpenApiParameter("q", description="Full text: words, “exact phrases”, begin*, -not.")
FILTERS = [
    OpenApiParameter("cluster", many=True, description="Key or name of a cluster."),
    *(OpenApiParameter(field, many=True, description="Any of them.") for field in FIELDS),
]
KEY_RANGES, MEASURES = list(key_events.RANGES), list(ALL)
SEARCH = [
    TEXT,
    OpenApiParameter(
        "since", OpenApiTypes.DATETIME, description="Last seen then or later; default: 24 h ago."
    ),
    OpenApiParameter("until", OpenApiTypes.DATETIME, description="Last seen before; default: now."),
    OpenApiParameter(
        "during",
        enum=["1"],
        description="Also what was seen again after until, if it began before.",
    ),
    OpenApiParameter(
        "range", enum=list(asked.RANGES), description="Instead of since: how long before until."
    ),
    *FILTERS,
]


class EventViewSet(ReadOnlyViewSet):
    """Kubernetes events of all clusters, newest first; a filter may be repeated."""

    queryset = Event.objects.none()
    serializer_class = serializers.EventSerializer
    filter_backends = [OneOrder]
    pagination_class = None  # type: ignore[assignment]
    lookup_url_kwarg = "key"
    lookup_value_regex = r"[0-9a-f]+"
    rights: ClassVar[dict[str, str]] = {}

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action == "retrieve":
            return serializers.EventDetailSerializer
        return super().get_serializer_class()

    @extend_schema(
        parameters=[
            *SEARCH,
            OpenApiParameter("page_size", int, description=f"At most {PAGE_MAX}."),
            OpenApiParameter("cursor", description="A place in the list; next holds it."),
        ],
        responses=serializers.EventPageSerializer,
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Search: a page of events, of the last 24 hours if nothing else is asked."""
        given = request.query_params
        OneOrder().filter_queryset(request, None, self)
        cursor = given.get("cursor", "")
        found = search.page(
            request.user,
            asked.query(request.user, given),
            after=Cursor.parse(cursor) if cursor else None,
            limit=_size(request, "page_size", PAGE, PAGE_MAX),
        )
        address = request.build_absolute_uri()
        following = replace_query_param(address, "cursor", str(found.next)) if found.next else None
        rows = self.get_serializer(found.rows, many=True).data
        return Response({"next": following, "results": rows})

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One event, with the whole object as the cluster gave it."""
        found = search.one(request.user, kwargs["key"])
        if found is None:
            raise Http404
        return Response(self.get_serializer(found).data)

    @extend_schema(
        parameters=[
            OpenApiParameter("field", enum=COUNTED, required=True),
            OpenApiParameter("most", int, description=f"At most {VALUES_MAX}."),
            *SEARCH,
        ],
        responses=serializers.CountsSerializer,
        filters=False,
    )
    @action(detail=False, pagination_class=None)
    def counts(self, request: Request) -> Response:
        """The commonest values of a field; what is chosen in it does not limit its counts."""
        field = request.query_params.get("field", "")
        if field not in COUNTED:
            sentence = _("“%(name)s” is no field that is counted; there are %(known)s.") % {
                "name": shorten(field, 60),
                "known": ", ".join(COUNTED),
            }
            raise InvalidInput(sentence, fields={"field": sentence})
        most = _size(request, "most", VALUES, VALUES_MAX)
        query = asked.query(request.user, request.query_params)
        counted = search.counts(request.user, query, field, most=most)
        names = {value: value for value, _count in counted}
        if field == "cluster":  # one that was un-adopted has none; its events are on their way out
            names = _names(request.user, counted)
        values = [
            {"value": str(value), "name": names[value], "count": count}
            for value, count in counted
            if value in names
        ]
        return Response({"field": field, "values": values})

    @extend_schema(parameters=SEARCH, responses=serializers.HistogramSerializer, filters=False)
    @action(detail=False, pagination_class=None)
    def histogram(self, request: Request) -> Response:
        """How many events were last seen when, in 61 equal parts of the time range at most."""
        query = asked.query(request.user, request.query_params)
        found = {
            "since": query.since,
            "until": query.until,
            "buckets": search.histogram(request.user, query),
        }
        return Response(serializers.HistogramSerializer(found).data)

    @extend_schema(
        parameters=[
            TEXT,
            *FILTERS,
            OpenApiParameter("after", description="The id of the last event that you have."),
            OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER),
            OpenApiParameter("format", exclude=True),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                OpenApiTypes.STR,
                description="Events `rows` (an array of events as in the list, oldest first), "
                "`left_out` (how many were too many to tell: `count`, `more` if there are others "
                "still, and the `url` that finds them; `count` 0: what is stored late is not "
                "told), `live` (from here on as it is stored), "
                "`at` (a new id, nothing else), `away` (`message` says why the event store cannot "
                "be asked; it is tried again), `back`, `changed` (what you may see is another: "
                "connect again), `forbidden` (the last). Connect again with Last-Event-ID to "
                "continue.",
            )
        },
        filters=False,
    )
    @action(
        detail=False,
        renderer_classes=[JSONRenderer, EventStreamRenderer],  # refusals are JSON
        pagination_class=None,
        filter_backends=[],
    )
    def tail(self, request: Request) -> HttpResponseBase:
        """Events as they are stored (server-sent events), for as long as you listen.

        A repeated event comes again with its new count; `id` tells which it is.
        """
        return tail.answer(
            request._request,
            user=request.user,
            auth=request.auth,
            given=request.query_params,
            shape=TAIL,
        )

    @extend_schema(
        parameters=[
            OpenApiParameter("range", enum=KEY_RANGES, description="Before now; default: 24h."),
            OpenApiParameter("cluster", many=True, description="Key or name of a cluster."),
            OpenApiParameter(
                "of",
                enum=MEASURES,
                description="Whose objects and nodes are counted; default: those of all warnings.",
            ),
        ],
        responses=serializers.KeyEventsSerializer,
        filters=False,
    )
    @action(detail=False, pagination_class=None)
    def key(self, request: Request) -> Response:
        """What goes wrong, in numbers, against what is usual; and reasons never seen before."""
        wanted = key_events.wanted(request.user, request.query_params)
        found = key_events.look(request.user, wanted)
        return Response(serializers.KeyEventsSerializer(found).data)


class EventStreamViewSet(ReadOnlyViewSet):
    """How the events of each cluster flow; the key in the address is the cluster's."""

    queryset = EventStream.objects.select_related("cluster").order_by("cluster__name")
    serializer_class = serializers.EventStreamSerializer
    filter_backends = [Backend, OneOrder]
    filterset_fields = {"cluster": ["exact"]}
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {}


class EventRetentionViewSet(ReadOnlyViewSet):
    """For how long the events of each cluster are kept; the key in the address is the cluster's."""

    queryset = Cluster.objects.select_related("event_retention").order_by("name")
    serializer_class = serializers.EventRetentionSerializer
    filter_backends = [OneOrder]
    rights: ClassVar[dict[str, str]] = {"partial_update": CHANGE}
    lookup_value_regex = r"\d+"

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        rows = [_retention(cluster) for cluster in page or []]
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Null where it is as the portal's settings say."""
        return Response(self.get_serializer(_retention(self.get_object())).data)

    @extend_schema(
        request=serializers.EventRetentionSerializer,
        responses=serializers.EventRetentionSerializer,
    )
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change what is named; null is as the portal's settings say."""
        cluster = self.get_object()
        wish = self.get_serializer(_retention(cluster), data=request.data, partial=True)
        wish.is_valid(raise_exception=True)
        values = dict(wish.validated_data)
        reason = values.pop("reason", "")
        row = retention.save(
            cluster=cluster, values=values, acting_user=cast(User, request.user), reason=reason
        )
        return Response(self.get_serializer(row).data)


class EventSegmentViewSet(ReadOnlyViewSet):
    """What is in the archive of events, the newest day first."""

    queryset = EventSegment.objects.select_related("cluster").order_by(
        "-day", "cluster_name", "part", "number"
    )
    serializer_class = serializers.EventSegmentSerializer
    filter_backends = [Backend, OneOrder]
    filterset_fields = {
        "cluster": ["exact"],
        "cluster_uid": ["exact"],
        "cluster_name": ["exact"],
        "day": ["exact", "gte", "lte"],
        "part": ["exact"],
    }
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {}


class EventRestoreViewSet(BaseViewSet):
    """What was brought back from the archive of events; owners ask for it, and let it go again."""

    queryset = EventRestore.objects.select_related("cluster").order_by("-asked_at", "-pk")
    serializer_class = serializers.EventRestoreSerializer
    filter_backends = [Backend, OneOrder]
    filterset_fields = {"cluster": ["exact"]}
    lookup_value_regex = r"\d+"
    http_method_names = ["get", "post", "delete", "head", "options"]

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        values = dict(serializer.validated_data)
        reason = values.pop("reason", "")
        row = EventRestore(**values)
        restoring.ask(row, acting_user=cast(User, self.request.user), reason=reason)
        serializer.instance = row

    def perform_destroy(self, instance: Any) -> None:
        restoring.let_go(instance, acting_user=cast(User, self.request.user))


def _retention(cluster: Cluster) -> EventRetention:
    """Without a query: the row was joined already."""
    return getattr(cluster, "event_retention", None) or EventRetention(cluster=cluster)


def _tail_rows(_scope: Scope, events: Sequence[FoundEvent]) -> Any:
    rows: Any = events
    return serializers.EventSerializer(rows, many=True).data


TAIL = tail.Shape(_tail_rows, lambda: reverse("event-list"))


def _size(request: Request, name: str, usual: int, most: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return usual
    number = as_number(text)
    if not number or number > most:
        sentence = _("%(name)s must be a number from 1 to %(most)d, not “%(text)s”.") % {
            "name": name,
            "most": most,
            "text": shorten(text, 60),
        }
        raise InvalidInput(sentence, fields={name: sentence})
    return number


def _names(user: Any, counted: "list[tuple[Any, int]]") -> dict[Any, str]:
    known = search.scope_of(user).known
    return {key: known[key].name for key, _count in counted if key in known}
