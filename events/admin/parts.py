"""What the pages of clusters, nodes and operations show of events, after they are there."""

from typing import Any

from django.http import QueryDict

from events.admin import shown
from events.admin.address import Address
from events.services import asked, search
from events.services.search import Span

NEWEST = 10


def newest(user: Any, given: QueryDict) -> dict[str, Any]:
    """The first few rows of a search, and the way to all of them."""
    query = asked.query(user, given)
    found = search.page(user, query, limit=NEWEST)
    return {
        "rows": [(event, shown.type_badge(event.type)) for event in found.rows],
        "address": str(Address(given)),
        "is_all": found.next is None,
    }


def warnings(user: Any, given: QueryDict) -> dict[str, Any]:
    given = given.copy()
    given["type"] = search.WARNING
    query = asked.query(user, given)
    span = Span(query.since, query.until)
    counted = search.tallies(user, {"warnings": query}, query.clusters, [span])
    return {"count": counted["warnings"][0], "address": str(Address(given))}
