"""The command palette (Ctrl+K): pages, clusters, machines, nodes and operations by a few letters.

Only what the person may see is found, always asked anew.  A few of each kind are enough: whoever
needs all of them goes to the list.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from unfold.dataclasses import SearchResult

from beidou.base.permissions import visible_to
from beidou.overview.navigation import sidebar
from clusters.models import Cluster, Node
from machines.models import Machine
from operations.models import Operation

PER_KIND = 8
LONGEST = 100


def answer(request: HttpRequest) -> TemplateResponse:
    """The list of what was found, in the theme's template."""
    began = time.perf_counter()
    text = request.GET.get("s", "").strip()[:LONGEST]
    found = list(find(request, text)) if text else []
    pages = Paginator(found, max(1, len(found)))
    context = {
        "page_obj": pages,
        "results": pages.page(1),
        "page_counter": 0,
        "execution_time": time.perf_counter() - began,
        "command_show_history": False,
    }
    return TemplateResponse(
        request, "unfold/helpers/command_results.html", context, headers={"HX-Trigger": "search"}
    )


def find(request: HttpRequest, text: str) -> Iterator[SearchResult]:
    """Pages first, then objects."""
    yield from _pages(request, text.lower())
    by_name = Q(name__icontains=text)
    clusters = visible_to(request.user, Cluster.objects.filter(by_name | Q(server__icontains=text)))
    yield from _objects(clusters, _("Cluster"), "hub")
    # A subquery per kind of name: machines are found by their indexes alone.
    machines = visible_to(request.user, Machine.objects.search(text).select_related("cluster"))
    yield from _objects(machines, _("Machine"), "host")
    nodes = Node.objects.filter(by_name | Q(internal_ip__startswith=text))
    yield from _objects(visible_to(request.user, nodes.select_related("cluster")), _("Node"), "dns")
    named = Operation.objects.filter(by_name | Q(kind__icontains=text)).select_related("cluster")
    yield from _objects(visible_to(request.user, named), _("Operation"), "play_circle")


def _pages(request: HttpRequest, text: str) -> Iterator[SearchResult]:
    for group in sidebar(request):
        for item in group["items"]:
            if text in str(item["title"]).lower():
                yield SearchResult(
                    title=str(item["title"]),
                    description=str(group["title"] or _("Page")),
                    link=item["link"],
                    icon=item["icon"],
                )


def _objects(rows: QuerySet[Any], kind: str, icon: str) -> Iterable[SearchResult]:
    model: type[Model] = rows.model
    if model not in admin.site._registry:
        return
    page = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    for row in rows[:PER_KIND]:
        cluster = getattr(row, "cluster", None)
        description = f"{kind} · {cluster}" if cluster else kind
        is_insecure = getattr(cluster or row, "insecure_tls", False)
        if is_insecure:
            description = f"{description} · {_('TLS not verified')}"
        yield SearchResult(
            title=str(row),
            description=description,
            link=reverse(page, args=[row.pk]),
            icon="no_encryption" if is_insecure else icon,
        )
