"""Parts of the live page that are loaded when they are looked at, and an operation as manifest."""

import json
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from beidou.base import permissions
from beidou.base.models import AuditEntry
from operations.kinds import base as kinds
from operations.kinds.draining.plan import What
from operations.models import Operation
from operations.services import manifests, story
from operations.services import results as all_results


def _visible(request: HttpRequest, pk: int) -> Operation:
    rows = permissions.visible_to(request.user, Operation.objects.select_related("cluster"))
    return get_object_or_404(rows, pk=pk)


@login_required
@require_GET
def evidence(request: HttpRequest, pk: int) -> HttpResponse:
    """What proves each step of one machine (``?machine=``; without it of the first)."""
    operation = _visible(request, pk)
    members = list(operation.machines.order_by("pk"))
    asked = request.GET.get("machine", "")
    chosen = next((each for each in members if str(each.pk) == asked), None)
    chosen = chosen or (members[0] if members else None)
    cells: list[Any] = []
    if chosen is not None:
        cells = list(chosen.cells.select_related("step").order_by("step__position"))
    for cell in cells:
        cell.pods = _fates(cell.evidence.get("pods"))
        cell.proofs = [
            (name, *_shown(value))
            for name, value in cell.evidence.items()
            if name != "pods" or not cell.pods
        ]
    return render(
        request,
        "operations/evidence.html",
        {"operation": operation, "members": members, "chosen": chosen, "cells": cells},
    )


_FATES = {
    What.MOVED: gettext_lazy("moves"),
    What.AGAIN: gettext_lazy("is begun again by its Job"),
    What.PERHAPS: gettext_lazy("goes; its controller decides whether it is made anew"),
    What.LOST: gettext_lazy("is lost"),
    What.DAEMON_SET: gettext_lazy("stays until the node is gone (DaemonSet)"),
    What.STATIC: gettext_lazy("stays until the node is gone (static)"),
    What.ENDED: gettext_lazy("has ended already"),
    What.ENDING: gettext_lazy("is ending already"),
}


def _fates(pods: Any) -> list[dict[str, Any]]:
    """The pods of a node that is emptied, those with problems first."""
    if not isinstance(pods, list) or not all(
        isinstance(pod, dict) and "what" in pod for pod in pods
    ):
        return []
    rows = [{**pod, "fate": _FATES.get(pod["what"], pod["what"])} for pod in pods]
    return sorted(rows, key=lambda row: not row.get("problems"))


def _shown(value: Any) -> tuple[str, bool]:
    """The value as text, and whether it is so long that it stands on lines of its own."""
    if isinstance(value, bool):
        return (str(_("yes")) if value else str(_("no"))), False
    if isinstance(value, dict | list):
        return json.dumps(value, indent=2, ensure_ascii=False), True
    return str(value), False


@login_required
@require_GET
def results(request: HttpRequest, pk: int) -> HttpResponse:
    """Machines × checks with what has changed since the last time (``?show=``)."""
    operation = _visible(request, pk)
    kind = kinds.KINDS.get(operation.kind)
    if kind is None or not kind.compares:
        raise Http404
    table = all_results.of(operation, view=request.GET.get("show", ""))
    views = [
        (all_results.PROBLEMS, _("Only problems")),
        (all_results.CHANGED, _("Only changed")),
        (all_results.ALL, _("Everything")),
    ]
    context = {"table": table, "views": views, "marked": ("new", "worse", "repaired")}
    return render(request, "operations/results.html", context)


@login_required
@require_GET
def audit(request: HttpRequest, pk: int) -> HttpResponse:
    """Who did what: changes of state for everyone who sees it, audit entries for who may."""
    operation = _visible(request, pk)
    may_see_audit = permissions.may_anywhere(request.user, AuditEntry)
    return render(
        request,
        "operations/audit.html",
        {
            "operation": operation,
            "entries": story.of(operation, user=request.user),
            "may_see_audit": may_see_audit,
        },
    )


@login_required
@require_GET
def manifest(request: HttpRequest, pk: int) -> HttpResponse:
    operation = _visible(request, pk)
    response = HttpResponse(
        manifests.as_manifest(operation), content_type="application/yaml; charset=utf-8"
    )
    response["Content-Disposition"] = f'attachment; filename="{operation.name}.yaml"'
    return response
