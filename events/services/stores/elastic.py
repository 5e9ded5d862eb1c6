"""Elasticsearch or OpenSearch as the event store."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.utils import timezone
from elasticsearch.dsl import A, Q, Search
from elasticsearch.dsl.query import Query as Condition

from beidou.base.config import EventServer
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from events.drivers import patience
from events.drivers.elastic import documents
from events.drivers.elastic.indices import Indices
from events.drivers.elastic.server import WRITE_SECONDS, Server, cause, refusal
from events.drivers.elastic.writing import Writer
from events.drivers.errors import LabelsSealed
from events.drivers.kube_events import Record
from events.models import EventRestore
from events.services.stores import granted
from events.services.stores.base import (
    NO_LABELS,
    WARNING,
    Cursor,
    FoundEvent,
    Keeper,
    Labels,
    Limits,
    Page,
    Part,
    Query,
    Scope,
    SeenReason,
    Span,
)
from events.services.stores.elastic_queries import (
    condition,
    mislabelled,
    of_clusters,
    of_scope,
    past,
)

DELETED_AT_ONCE = 2000
RELABELLED_AT_ONCE = 1000
MOST_CLUSTERS = 10_000
COUNTED_BY_DAY = 5_000
"""Values of which each day's index tells; with more than so many, a sum may be too low."""
REASONS_AT_ONCE = 1000
_NEWEST: tuple[Any, ...] = (
    {documents.TIME: "desc"},
    {documents.TIE: "desc"},
)


class ElasticStore:
    """See ``Store``."""

    portions_at_once = 2
    is_in_database = False
    label_delay: timedelta | None = timedelta(minutes=2)
    """A portion on its way is given up long before."""

    def __init__(self, address: EventServer, owner: str) -> None:
        self.address = address
        self._reading = Server(address, patience.READ_SECONDS)
        writing = Server(address, WRITE_SECONDS)
        self.indices = Indices(writing, owner)
        self._writer = Writer(writing, self.indices)

    def write(
        self, keeper: Keeper, records: Sequence[Record], labels: Labels = NO_LABELS
    ) -> list[tuple[Record, str]]:
        return self._writer.write(keeper.uid, keeper.name, records, labels)

    def relabel(
        self, cluster_uid: str, team: int, namespaces: Sequence[str], labels: Labels
    ) -> bool:
        """By its own words instead of a script: the server does not keep those of the full text,
        and need allow no scripts."""
        if not self.indices.are_ours() and not self.indices.names():
            return True
        self.indices.complete()
        self.refresh()
        given = [name for name in namespaces if team in labels.get(name, ())]
        taken = [name for name in namespaces if team not in labels.get(name, ())]
        sealed = self.indices.sealed()
        elsewhere = Q("bool", must_not=[Q("terms", _index=sealed)])
        wrong = mislabelled(cluster_uid, team, given, taken)
        search = Search().query(wrong & elsewhere).sort(*_NEWEST)
        search = search.source(excludes=[documents.WHOLE])
        hits = self._search(
            search.extra(size=RELABELLED_AT_ONCE, track_total_hits=False, seq_no_primary_term=True)
        )["hits"]["hits"]
        if hits:
            self._writer.relabel(hits, labels)
        elif sealed and taken:
            self._require_unsealed(mislabelled(cluster_uid, team, (), taken), sealed)
        return not hits

    def _require_unsealed(self, wrong: Condition, sealed: Sequence[str]) -> None:
        search = Search().query(wrong & Q("terms", _index=sealed)).source(False)
        hits = self._search(search.extra(size=1, track_total_hits=False))["hits"]["hits"]
        if hits:
            raise LabelsSealed(
                Sentence(
                    "The index “%(name)s” takes no writes: events in it that a team may not see "
                    "any more stay withheld, until the index takes writes or goes.",
                    name=hits[0]["_index"],
                )
            )

    # --- finding ----------------------------------------------------------------------------------

    def page(
        self, query: Query, scope: Scope, *, after: Cursor | None, limit: int, with_raw: bool
    ) -> Page:
        search = Search().query(condition(query, _within(scope))).sort(*_NEWEST)
        search = search.extra(size=limit + 1, track_total_hits=False)
        if not with_raw:
            search = search.source(excludes=[documents.WHOLE])
        if after is not None:
            search = search.extra(search_after=[after.nanoseconds, after.tie])
        hits = self._search(search)["hits"]["hits"]
        behind = None
        if len(hits) > limit:
            hits = hits[:limit]
            last = hits[-1]["_source"]
            behind = Cursor(documents.moment_of(last[documents.TIME]), last["beidou"]["tie"])
        known = _by_uid(scope)
        found = [_found(hit, known) for hit in hits]
        return Page([event for event in found if event is not None], behind)

    def one(self, key: str, scope: Scope) -> FoundEvent | None:
        wanted = Q("bool", filter=[Q("ids", values=[key]), *_within(scope)])
        # What came too late for a sealed index has the same key, and is newer.
        search = Search().query(wanted).sort(*_NEWEST).extra(size=1)
        hits = self._search(search)["hits"]["hits"]
        return _found(hits[0], _by_uid(scope)) if hits else None

    def counts(self, query: Query, scope: Scope, field: str, most: int) -> list[tuple[Any, int]]:
        name = documents.CLUSTER if field == "cluster" else documents.FIELDS[field]
        search = Search().query(condition(query, _within(scope)))
        search.aggs.bucket(
            "found", A("terms", field=name, size=most, shard_size=COUNTED_BY_DAY, order=_COMMONEST)
        )
        counted = [(bucket["key"], bucket["doc_count"]) for bucket in self._buckets(search)]
        if field != "cluster":
            return counted
        known = _by_uid(scope)
        return [(known[uid].pk, number) for uid, number in counted if uid in known]

    def parts(self, query: Query, scope: Scope, begin: datetime, seconds: int) -> dict[int, Part]:
        first = int(begin.timestamp())
        search = Search().query(condition(query, _within(scope)))
        search.aggs.bucket(
            "found",
            A(
                "date_histogram",
                field=documents.TIME,
                fixed_interval=f"{seconds}s",
                offset=f"+{first % seconds}s",
                min_doc_count=1,
            ),
        ).bucket("warnings", A("filter", term={documents.FIELDS["type"]: WARNING}))
        found = {}
        for bucket in self._buckets(search):
            number = (bucket["key"] // 1000 - first) // seconds
            warnings = bucket["warnings"]["doc_count"]
            found[number] = Part(warnings, bucket["doc_count"] - warnings)
        return found

    def tallies(
        self, queries: Mapping[str, Query], scope: Scope, spans: Sequence[Span]
    ) -> dict[str, list[int]]:
        within = _within(scope)
        filters = {name: condition(query, within) for name, query in queries.items()}
        went_on = {str(number): _went_on(span) for number, span in enumerate(spans)}
        search = Search().query(Q("bool", filter=[Q("bool", should=list(filters.values()))]))
        search.aggs.bucket("found", A("filters", filters=filters)).bucket(
            "spans", A("filters", filters=went_on)
        )
        found: Any = self._buckets(search) or {}
        return {
            name: [found[name]["spans"]["buckets"][number]["doc_count"] for number in went_on]
            if found
            else [0] * len(spans)
            for name in queries
        }

    def firsts(self, scope: Scope, spans: Sequence[Span]) -> list[datetime | None]:
        """By searches, which end at the first; an aggregation would look at every event."""
        within = _within(scope)
        lines = b"".join(
            documents.encoded(part) + b"\n"
            for span in spans
            for part in (_SEARCHED_ALL, _first_of(span, within).to_dict())
        )
        answers = self._reading.ask("POST", f"/{self.indices.all}/_msearch", lines=lines)
        found = []
        for answer in answers["responses"]:
            if "error" in answer:
                raise refusal(answer["status"], *cause(answer))
            hits = answer["hits"]["hits"]
            moment = hits[0]["_source"][documents.TIME] if hits else None
            found.append(documents.moment_of(moment) if moment else None)
        return found

    def reasons(self, query: Query, scope: Scope, most: int) -> list[SeenReason]:
        known = _by_uid(scope)
        wanted = condition(query, _within(scope))
        found: list[SeenReason] = []
        after: dict[str, str] = {}
        while len(found) < most:
            buckets = self._buckets(_reasons_after(wanted, after))
            for bucket in buckets:
                if (cluster := known.get(bucket["key"]["cluster"])) is not None:
                    first = datetime.fromtimestamp(bucket["first"]["value"] / 1000, UTC)
                    found.append(SeenReason(cluster.pk, bucket["key"]["reason"], first))
            if len(buckets) < REASONS_AT_ONCE:
                break
            after = buckets[-1]["key"]
        return found[:most]

    def _buckets(self, search: Search) -> list[dict[str, Any]]:
        """Of the aggregation called ``found``; there is none where there is no index yet."""
        found = self._search(search.extra(size=0, track_total_hits=False))
        buckets: list[dict[str, Any]] = found.get("aggregations", _NO_BUCKETS)["found"]["buckets"]
        return buckets

    def _search(self, search: Search) -> dict[str, Any]:
        """All of it or nothing: a part of the truth is none."""
        return self._reading.ask(
            "POST",
            f"/{self.indices.all}/_search",
            body=search.to_dict(),
            allow_partial_search_results="false",
            ignore_unavailable="true",
        )

    # --- forgetting -------------------------------------------------------------------------------

    def forget(self, limits: Limits) -> int:
        if not self.indices.are_ours():
            return 0
        conditions = [past(group, limits.held) for group in limits.groups()]
        gone = self._drop_over(limits.latest, Q("bool", should=conditions, minimum_should_match=1))
        return gone + sum(self._delete(condition) for condition in conditions)

    def remove(self, keeper: Keeper, records: Sequence[Record]) -> int:
        if not self.indices.are_ours():
            return 0
        return self._writer.remove(keeper.uid, records)

    def refresh(self) -> None:
        self._refresh(self.indices.all)

    def _refresh(self, names: str) -> None:
        """A search does not see by itself what was done in the last second."""
        self._reading.ask("POST", f"/{names}/_refresh", ignore_unavailable="true")

    def forget_empty_days(self, before: date) -> None:
        if self.indices.are_ours():
            self._drop_over(before, Q("match_none"))

    def _drop_over(self, before: date, is_past: Condition) -> int:
        """Days before this one in which everything is past its time go as whole indices."""
        gone = 0
        for name in self.indices.names():
            day = self.indices.day_of(name)
            if day is None or day >= before or self._is_needed(name, is_past):
                continue
            # A server has no lock: what is brought back might come after the look.
            if not _is_brought_back(day):
                self.indices.drop(name)
                gone += 1
        return gone

    def forget_clusters(self) -> int:
        if not self.indices.are_ours():
            return 0
        search = Search()
        search.aggs.bucket("found", A("terms", field=documents.CLUSTER, size=MOST_CLUSTERS))
        stored = {bucket["key"] for bucket in self._buckets(search)}
        known = set(Cluster.objects.filter(uid__in=stored).values_list("uid", flat=True))
        gone = sorted(stored - known)
        return self._delete(of_clusters(gone)) if gone else 0

    def _is_needed(self, name: str, is_past: Condition) -> bool:
        self._refresh(name)
        search = Search().query(Q("bool", must_not=[is_past]))
        body = search.extra(size=0, terminate_after=1, track_total_hits=1).to_dict()
        answer = self._reading.ask(
            "POST", f"/{name}/_search", body=body, allow_partial_search_results="false"
        )
        return bool(answer["hits"]["total"]["value"])

    def _delete(self, condition: Condition) -> int:
        """But for what is in sealed indices: they can only go as a whole."""
        if sealed := self.indices.sealed():
            condition = Q("bool", filter=[condition], must_not=[Q("terms", _index=sealed)])
        deleted = 0
        for portion in self._each(condition):
            self._writer.delete(portion)
            deleted += len(portion)
        return deleted

    def _each(self, condition: Condition) -> Iterator[list[tuple[str, str]]]:
        """Where those of a condition are, in portions, for as long as there is patience."""
        search = Search().query(condition).source(False).sort(*_NEWEST)
        search = search.extra(size=DELETED_AT_ONCE, track_total_hits=False)
        after: list[Any] | None = None
        while not patience.is_over():
            asked = search if after is None else search.extra(search_after=after)
            hits = self._search(asked)["hits"]["hits"]
            if not hits:
                return
            yield [(hit["_index"], hit["_id"]) for hit in hits]
            after = hits[-1]["sort"]


def _is_brought_back(day: date) -> bool:
    """Whether events that began on this day may be on their way from the archive: they were last
    seen then or later."""
    rows = EventRestore.objects.filter(finished_at=None, until__gte=day)
    return rows.filter(kept_until__gt=timezone.now().date()).exists()


_SEARCHED_ALL: dict[str, Any] = {"allow_partial_search_results": False, "ignore_unavailable": True}
_NO_BUCKETS: dict[str, Any] = {"found": {"buckets": []}}
_COMMONEST = [{"_count": "desc"}, {"_key": "asc"}]


def _went_on(span: Span) -> Condition:
    began = Q("range", **{documents.BEGAN: {"lt": documents.moment(span.until)}})
    seen = Q("range", **{documents.TIME: {"gte": documents.moment(span.since)}})
    return Q("bool", filter=[began, seen])


def _first_of(span: Span, within: Sequence[Condition]) -> Search:
    wanted = condition(Query(since=span.since, until=span.until), within)
    search = (
        Search().query(wanted).sort({documents.TIME: {"order": "asc"}}).source([documents.TIME])
    )
    return search.extra(size=1, track_total_hits=False)


def _reasons_after(wanted: Condition, after: dict[str, str]) -> Search:
    fields = {"cluster": documents.CLUSTER, "reason": documents.FIELDS["reason"]}
    sources: list[Any] = [{name: {"terms": {"field": field}}} for name, field in fields.items()]
    more: dict[str, Any] = {"after": after} if after else {}
    search = Search().query(wanted)
    search.aggs.bucket(
        "found", A("composite", sources=sources, size=REASONS_AT_ONCE, **more)
    ).metric("first", A("min", field=documents.BEGAN))
    return search


def _by_uid(scope: Scope) -> dict[str, Cluster]:
    return {cluster.uid: cluster for cluster in scope.known.values()}


def _within(scope: Scope) -> list[Condition]:
    return of_scope(scope, granted.withheld(scope))


def _found(hit: dict[str, Any], clusters: dict[str, Cluster]) -> FoundEvent | None:
    """None for an event of a cluster that may not be seen, or is none of the portal's any more."""
    source = hit["_source"]
    cluster = clusters.get(source["orchestrator"]["cluster"]["id"])
    if cluster is None:
        return None
    tie = source["beidou"]["tie"]
    return FoundEvent(key=hit["_id"], tie=tie, cluster=cluster, **documents.values(source))
