"""The live tail on the page: its rows are made here, by the template of all rows."""

from collections.abc import Sequence
from typing import Any

from django.http import QueryDict
from django.template.loader import get_template
from django.urls import reverse
from django.utils.translation import gettext as _

from clusters.models import Node
from events.admin import shown
from events.admin.address import Address
from events.services import tail
from events.services.search import FoundEvent, Page, Scope

ROWS_MAX = 200
"""That stay on the page."""


def switch(given: QueryDict, found: Page) -> dict[str, Any]:
    """What the page that shows ``found`` needs to go live.

    New rows belong on top of the newest ones: other places of the list lead there first.
    """
    search = Address(given).timeless()
    page = f"{reverse('admin:events_event_changelist')}{search}"
    return {
        "is_newest": not given.get("until") and not given.get("cursor"),
        "page": page,
        "data": {
            "url": f"{reverse('admin:events_event_tail')}{search}",
            "page": page,
            "login": reverse("admin:login"),
            "after": str(tail.Position.behind(found)),
            "most": ROWS_MAX,
            "texts": {
                "connecting": _("Connecting …"),
                "live": _("New events come on top as they are stored."),
                "paused": _("Paused while this tab is hidden."),
                "lost": _("The portal does not answer; it is tried again by itself."),
                "signed_out": _("You have been signed out."),
                "sign_in": _("Sign in"),
                "forbidden": _("You may not see these events any more."),
                "refused": _("The portal refuses this search."),
                "left_out": _("Too many events came at once to show them all."),
                "late": _("So many events come that one that is stored late is not shown."),
                "find": _("Find the others (%(count)s)"),
                "trimmed": _("Only the newest %(count)d rows stay here.") % {"count": ROWS_MAX},
                "all": _("Search for the others"),
            },
        },
    }


def _rows(scope: Scope, events: Sequence[FoundEvent]) -> list[str]:
    # Whoever sees a cluster sees its nodes.
    nodes = Node.objects.filter(cluster__in=list(scope.clusters))
    template = get_template("events/row.html")
    return [
        template.render({"row": row, "event": row["event"]})
        for row in shown.each_row(events, nodes, scope)
    ]


ROWS = tail.Shape(_rows, lambda: reverse("admin:events_event_changelist"))
