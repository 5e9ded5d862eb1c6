"""A search in the words of Elasticsearch, by its own DSL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from elasticsearch.dsl import Q
from elasticsearch.dsl.query import Query as Condition

from events.drivers import text
from events.drivers.elastic import documents
from events.services.stores.base import FIELDS, WARNING, Group, Held, Query, Scope

_EPOCH = "1970-01-01T00:00:00Z"
MOST_EXPANSIONS = 10_000
"""Of words that begin with what was typed."""


def _ranges(since: str, until: str, *, during: bool) -> Iterator[Condition]:
    if during:
        yield Q("range", **{documents.TIME: {"gte": since}})
        # Without a beginning the server falls over its own least number of nanoseconds.
        yield Q("range", **{documents.BEGAN: {"gte": _EPOCH, "lt": until}})
    else:
        yield Q("range", **{documents.TIME: {"gte": since, "lt": until}})


def condition(query: Query, within: Sequence[Condition]) -> Condition:
    since, until = documents.moment(query.since), documents.moment(query.until)
    filters = [*_ranges(since, until, during=query.during), *within]
    for field in FIELDS:
        if values := getattr(query, field):
            filters.append(Q("terms", **{documents.FIELDS[field]: list(values)}))
    unwanted: list[Condition] = []
    for term in text.parse(query.text):
        (unwanted if term.is_excluded else filters).append(_term(term))
    return Q("bool", filter=filters, must_not=unwanted)


def of_scope(scope: Scope, withheld: Mapping[str, Sequence[str]]) -> list[Condition]:
    """What may be found: a few terms, however many namespaces a team was granted.  ``withheld``
    are namespaces, by the cluster's UID, that were taken and may still be labelled."""
    if scope.is_all:
        return []
    seen = of_clusters(cluster.uid for cluster in scope.clusters.values())
    if not scope.limited:
        return [seen]
    in_part = Q(
        "bool",
        filter=[
            of_clusters(cluster.uid for cluster in scope.limited.values()),
            Q("terms", **{documents.TEAMS: [str(team) for team in scope.teams]}),
        ],
        must_not=[of_namespaces(uid, names) for uid, names in withheld.items()],
    )
    if not scope.clusters:
        return [in_part]
    return [Q("bool", should=[seen, in_part], minimum_should_match=1)]


def mislabelled(
    cluster_uid: str, team: int, given: Sequence[str], taken: Sequence[str]
) -> Condition:
    """What lacks the team's label in namespaces that it was granted, or has it in others."""
    label = Q("term", **{documents.TEAMS: str(team)})
    wrong = []
    if given:
        wrong.append(Q("bool", filter=[of_namespaces(cluster_uid, given)], must_not=[label]))
    if taken:
        wrong.append(Q("bool", filter=[of_namespaces(cluster_uid, taken), label]))
    return Q("bool", filter=[Q("bool", should=wrong, minimum_should_match=1)])


def of_namespaces(cluster_uid: str, names: Sequence[str]) -> Condition:
    named = Q("terms", **{documents.FIELDS["namespace"]: list(names)})
    return Q("bool", filter=[of_clusters([cluster_uid]), named])


def of_clusters(uids: Iterable[str]) -> Condition:
    return Q("terms", **{documents.CLUSTER: list(uids)})


def past(group: Group, held: Sequence[Held]) -> Condition:
    """What of a group is past its time."""
    before = {"lt": group.before.isoformat()}
    is_warning = Q("term", **{documents.FIELDS["type"]: WARNING})
    filters = [Q("range", **{documents.TIME: before}), Q("range", **{documents.DAY: before})]
    unwanted: list[Condition] = []
    (filters if group.is_warnings else unwanted).append(is_warning)
    if group.cluster is not None:
        filters.append(of_clusters([group.cluster.uid]))
    elif group.but:
        unwanted.append(of_clusters([cluster.uid for cluster in group.but]))
    for cluster, since, until in held:
        seen = {"gte": since.isoformat(), "lt": until.isoformat()}
        days = Q("range", **{documents.TIME: seen})
        unwanted.append(Q("bool", filter=[of_clusters([cluster.uid]), days]))
    return Q("bool", filter=filters, must_not=unwanted)


def _term(term: text.Term) -> Condition:
    words = " ".join(term.tokens)
    if not term.is_prefix:
        return Q("match_phrase", **{documents.TEXT: words})
    if len(term.tokens) == 1:
        return Q("prefix", **{documents.TEXT: words})
    return Q(
        "match_phrase_prefix",
        **{documents.TEXT: {"query": words, "max_expansions": MOST_EXPANSIONS}},
    )
