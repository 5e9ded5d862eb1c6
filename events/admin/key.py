"""What the page of key events shows: the choices at once, the figures as they are counted."""

from typing import Any

from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from clusters.models import Cluster
from events.admin.shown import RANGES, Choice
from events.services import flow, key_events, reasons
from events.services.key_events import Figure, KeyEvents, Top, Wanted
from events.services.reasons import New
from events.services.search import scope_of


def page(user: Any, given: QueryDict) -> dict[str, Any]:
    """InvalidInput where the address says something else."""
    wanted = key_events.wanted(user, given)
    rows = Cluster.objects.exclude(phase__in=Cluster.UNWATCHED)
    rows = rows.filter(pk__in=scope_of(user).known)
    ranges = [
        Choice(RANGES[name], f"?{_address(wanted, range=name)}", is_chosen=name == wanted.range)
        for name in key_events.RANGES
    ]
    return {
        "wanted": wanted,
        "address": f"?{_address(wanted)}",
        "events": f"?{_search(wanted).urlencode()}",
        "ranges": ranges,
        "clusters": list(rows.order_by("name").values_list("pk", "name")),
        "flow": flow.look(user, wanted.clusters),
        "named_at_most": flow.NAMED_AT_MOST,
        # A page of several clusters says so; one is chosen in the form.
        "chosen_cluster": wanted.clusters[0] if len(wanted.clusters) == 1 else None,
    }


def figures(user: Any, given: QueryDict) -> dict[str, Any]:
    found = key_events.look(user, key_events.wanted(user, given))
    wanted = found.wanted
    search = _search(wanted)
    return {
        "found": found,
        "rows": [_row(figure, found) for figure in found.figures],
        "compared": _compared(found),
        "of": wanted.of.label if wanted.of else "",
        "of_all": f"?{_address(wanted, of=None)}",
        "tops": [
            (label, [_top(wanted, search, name, each) for each in counted])
            for label, name, counted in (
                (_("Objects"), "name", found.objects),
                (_("Nodes"), "node", found.nodes),
            )
        ],
        "new": [(row, _of_reason(wanted, row)) for row in found.new.rows],
        # Reasons are known of whole clusters.
        "has_new": bool(scope_of(user).clusters),
        "cut": _cut(found.new),
        "full": _full(found.new),
    }


def _row(figure: Figure, found: KeyEvents) -> dict[str, Any]:
    wanted, measure = found.wanted, figure.measure
    return {
        "figure": figure,
        "url": f"?{measure.address(_search(wanted))}",
        "of_url": f"?{_address(wanted, of=measure.name)}",
        "is_of": wanted.of is measure,
        "times": figure.count / figure.usual if figure.usual and figure.is_more else None,
        "parts": [_row(part, found) for part in figure.parts if part.count],
    }


def _top(wanted: Wanted, search: QueryDict, name: str, top: Top) -> Choice:
    given = search.copy()
    given[name] = top.value
    if wanted.of is None:
        given["type"] = "Warning"
        return Choice(top.value, f"?{given.urlencode()}", count=top.count)
    return Choice(top.value, f"?{wanted.of.address(given)}", count=top.count)


def _of_reason(wanted: Wanted, row: Any) -> str:
    given = QueryDict(mutable=True)
    given["range"], given["cluster"] = wanted.range, str(row.cluster_id)
    given["reason"] = row.reason
    return f"{reverse('admin:events_event_changelist')}?{given.urlencode()}"


def _cut(new: New) -> str:
    if new.count == len(new.rows):
        return ""
    return _("These are the newest %(shown)s of %(count)s.") % {
        "shown": len(new.rows),
        "count": new.count,
    }


def _full(new: New) -> str:
    if not new.full:
        return ""
    return ngettext(
        "%(count)s cluster has given %(most)s different reasons; no further one is noticed.",
        "%(count)s clusters have given %(most)s different reasons each; no further ones are "
        "noticed.",
        new.full,
    ) % {"count": new.full, "most": reasons.MOST_OF_CLUSTER}


def _compared(found: KeyEvents) -> str:
    """In words, what the usual is."""
    if not found.compared:
        return _("There is no comparison yet: no events of earlier days are known.")
    if found.wanted.range == "7d":
        return _("Usual is what there was in the 7 days before.")
    return ngettext(
        "Usual is what there was in the same hours of %(days)d earlier day.",
        "Usual is the mean of the same hours of %(days)d earlier days.",
        found.compared,
    ) % {"days": found.compared}


def _address(wanted: Wanted, **changes: str | None) -> str:
    """Of this page."""
    of = wanted.of.name if wanted.of else None
    values: dict[str, str | None] = {"range": wanted.range, "of": of, **changes}
    given = QueryDict(mutable=True)
    for name, value in values.items():
        if value:
            given[name] = value
    given.setlist("cluster", [str(key) for key in wanted.clusters])
    return given.urlencode()


def _search(wanted: Wanted) -> QueryDict:
    """The time and the clusters as the event centre takes them."""
    given = QueryDict(mutable=True)
    given["range"] = wanted.range
    given.setlist("cluster", [str(key) for key in wanted.clusters])
    return given
