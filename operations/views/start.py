"""Starting an operation: choose, look at the plan, begin.

One page; each press of a button posts the whole form.  "Start" is taken only for exactly what the
plan was shown for, and the service checks everything once more.
"""

import hashlib
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

from django.contrib import admin
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import View

from beidou.base import permissions
from beidou.base.errors import SAID, InvalidInput
from beidou.base.models import User
from beidou.base.numbers import as_key
from clusters.models import Cluster
from machines.models import Machine
from machines.services import selection
from operations.durations import spoken_range
from operations.forms import ParamsForm, StartForm, fingerprint, place_problems
from operations.kinds.base import KINDS, Kind
from operations.services import start
from operations.services.start import Plan

CANDIDATES_MAX = 300


@dataclass
class _Page:
    """What the page shows."""

    form: StartForm
    params: ParamsForm
    kind: Kind
    plan: Plan | None = None
    unknown: list[selection.Unknown] = field(default_factory=list)
    planned: str = ""
    problem: str = ""
    problems: dict[str, str] = field(default_factory=dict)


class StartView(LoginRequiredMixin, View):
    """GET shows the form (``?kind=&cluster=&machines=``), POST plans or starts."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and not permissions.may_anywhere(
            request.user, Cluster, permissions.OPERATE
        ):
            raise PermissionDenied(_("Your roles do not include starting operations."))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        kind = _kind(request.GET)
        given = {
            "kind": kind.name,
            "cluster": request.GET.get("cluster", ""),
            "machines": _machines_text(request.GET),
        }
        form = StartForm(user=request.user, whole_cluster=kind.whole_cluster, initial=given)
        return self._show(request, _Page(form, _options(request, request.GET, kind), kind))

    def post(self, request: HttpRequest) -> HttpResponse:
        kind = _kind(request.POST)
        step = request.POST.get("step", "plan")
        form = StartForm(request.POST, user=request.user, whole_cluster=kind.whole_cluster)
        if step == "change":  # another kind was chosen: other options, nothing is checked yet
            values = {name: request.POST.get(name, "") for name in form.fields}
            form = StartForm(user=request.user, whole_cluster=kind.whole_cluster, initial=values)
            return self._show(request, _Page(form, _options(request, request.POST, kind), kind))
        params = _options(request, request.POST, kind, is_bound=True)
        page = _Page(form, params, kind)
        is_valid = form.is_valid()
        if not (params.is_valid() and is_valid):
            return self._show(request, page, status=400)
        try:
            return self._plan_or_start(request, page, step)
        except SAID as error:
            page.problem = error.message
            if isinstance(error, InvalidInput) and error.fields:
                page.problems = place_problems((page.form, page.params), error.fields)
                page.problem = error.message if page.problems else ""
            return self._show(request, page, status=400)

    def _plan_or_start(self, request: HttpRequest, page: _Page, step: str) -> HttpResponse:
        chosen = page.form.cleaned_data
        selected = selection.parse_machines(chosen["machines"], user=request.user)
        page.unknown = selected.unknown
        machines = selected.machines
        if not chosen["machines"].strip():
            machines = start.machines_of(
                page.kind.name, chosen["cluster"], user=cast("User", request.user)
            )
        if not machines:
            page.problem = _("No machine is chosen that could be planned for.")
            return self._show(request, page, status=400)
        common = {
            "kind": page.kind.name,
            "cluster": chosen["cluster"],
            "machines": machines,
            "params": page.params.params,
            "acting_user": request.user,
        }
        page.plan = start.plan_operation(**common)
        page.planned = _digest(page)
        if step != "start":
            return self._show(request, page)
        if request.POST.get("planned") != page.planned:
            page.problem = _("What is chosen has changed since this plan. Look at it once more.")
            return self._show(request, page, status=409)
        operation = start.start_operation(
            **common,
            reason=chosen["reason"],
            max_failed_percent=chosen["max_failed_percent"],
            forks=chosen["forks"],
            priority=chosen["priority"],
            leave_out_blocked=True,
        )
        url = reverse("admin:operations_operation_change", args=[operation.pk])
        return HttpResponseRedirect(url)

    def _show(self, request: HttpRequest, page: _Page, status: int = 200) -> HttpResponse:
        plan = page.plan
        candidates = _candidates(request, page)
        context = {
            **admin.site.each_context(request),
            "title": _("Start an operation"),
            "page": page,
            "plan": plan,
            "estimate": spoken_range(*plan.seconds) if plan and plan.seconds else "",
            "about": page.kind.about(plan.params.model_dump(mode="json")) if plan else [],
            "blocked": [each for each in plan.blockers if each.machine] if plan else [],
            "ready": plan.ready_with_steps if plan else [],
            "is_insecure": _is_insecure(page),
            "candidates": candidates,
            "able": sum(not each.blocked_by for each in candidates),
            "candidates_max": CANDIDATES_MAX,
            "kinds": [kind for kind in KINDS.values() if not kind.makes_cluster],
        }
        return TemplateResponse(request, "operations/start.html", context, status=status)


def _kind(values: QueryDict) -> Kind:
    """The chosen kind; ScaleUp when none or an unknown one is named, or one with an own page."""
    kind = KINDS.get(values.get("kind", ""))
    return KINDS["ScaleUp"] if kind is None or kind.makes_cluster else kind


def _options(
    request: HttpRequest, values: QueryDict, kind: Kind, *, is_bound: bool = False
) -> ParamsForm:
    """The form of the kind's parameters, by what is chosen so far (``params-…``; in an address
    their names alone)."""
    schema, owner = None, ""
    if kind.options is not None:
        chosen = {name.removeprefix("params-"): values.get(name) for name in values}
        schema = kind.options(chosen, cast("User", request.user))
        owner = fingerprint({"user": request.user.pk, "kind": kind.name, "schema": schema})
        owner = hashlib.sha256(owner.encode()).hexdigest()
    return ParamsForm(values if is_bound else None, kind=kind, schema=schema, owner=owner)


def _machines_text(values: QueryDict) -> str:
    """``machines`` may come once with many or many times with one."""
    return "\n".join(part for part in values.getlist("machines") if part)


def _is_insecure(page: _Page) -> bool:
    """Whether the certificate of the chosen cluster is not verified."""
    cluster = page.form["cluster"].value()
    try:
        return bool(cluster and page.form.fields["cluster"].clean(cluster).insecure_tls)
    except ValidationError:
        return False


def _candidates(request: HttpRequest, page: _Page) -> list[Any]:
    """Machines that could take part, to pick from; of the chosen cluster, if they must be in one.

    Where free ones are wanted those that wait for their first visit are shown too, with the reason
    as ``blocked_by``: whoever has just added them looks for them here.
    """
    kind = page.kind
    states = set(kind.startable_states)
    if Machine.State.AVAILABLE in states:
        states.add(Machine.State.DISCOVERED)
    rows = Machine.objects.filter(state__in=states).order_by("rack", "address")
    rows = rows.select_related("node")
    cluster = as_key(page.form["cluster"].value() or "")
    of_cluster = kind.whole_cluster or kind.startable_states <= Machine.IN_CLUSTER
    if of_cluster and cluster is not None:
        rows = rows.filter(cluster=cluster)
    visible = permissions.visible_to(request.user, rows, kind.permission)
    fitting = filter(kind.concerns, visible.iterator(chunk_size=CANDIDATES_MAX))
    found: list[Any] = list(islice(fitting, CANDIDATES_MAX))
    for machine in found:
        machine.blocked_by = start.why_not_from_state(kind, machine)
    return found


def _digest(page: _Page) -> str:
    """What the plan is about: changes with anything that a person or the world changed."""
    assert page.plan is not None  # noqa: S101
    chosen = {name: str(value) for name, value in page.form.cleaned_data.items()}
    values = {
        **chosen,
        "params": page.plan.params.model_dump(mode="json"),
        "ready": [machine.pk for machine in page.plan.ready],
    }
    return hashlib.sha256(fingerprint(values).encode()).hexdigest()
