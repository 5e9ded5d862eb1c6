"""Beginning a task, and a task as manifest."""

import json
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.http import require_GET

from beidou.base import permissions
from beidou.base.errors import SAID, Conflict, InvalidInput
from beidou.base.numbers import as_key
from clusters.models import Cluster
from machines.models import Machine
from machines.services import selection
from operations.flows import catalog, manifest, nesting, start
from operations.flows.catalog import Template
from operations.flows.forms import StartTaskForm
from operations.flows.library import editor, finding
from operations.flows.models import AutoOperationTask
from operations.kinds import base as operation_kinds

CANDIDATES_MAX = 300


@dataclass
class _Page:
    """What the page shows."""

    form: StartTaskForm
    template: Template
    params: Any = None  # what a template of the site lets be chosen
    plan: start.TaskPlan | None = None
    unknown: list[selection.Unknown] = field(default_factory=list)
    problem: str = ""
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def versions_below(self) -> dict[str, int]:
        return nesting.versions_of(self.plan.specs) if self.plan else {}

    @property
    def looked_at(self) -> str:
        return json.dumps(self.versions_below) if self.plan else ""


class StartTaskView(LoginRequiredMixin, View):
    """GET shows the form (``?template=&cluster=&machines=``), POST looks at it or begins.

    Nothing blocked is left out silently: what is, must be looked at first.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and not permissions.may_anywhere(
            request.user, Cluster, permissions.OPERATE
        ):
            raise PermissionDenied(_("Your roles do not include starting operations."))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        template = _template(request.GET.get("template", ""))
        given = {
            "kind": template.name,
            "cluster": request.GET.get("cluster", ""),
            "machines": _machines_text(request.GET),
            "replaced": request.GET.get("replaced", ""),
        }
        form = StartTaskForm(user=request.user, initial=given)
        return self._show(request, _Page(form, template, _params(template)))

    def post(self, request: HttpRequest) -> HttpResponse:
        template = _template(request.POST.get("kind", ""))
        form = StartTaskForm(request.POST, user=request.user)
        if request.POST.get("step") == "change":
            values = {name: request.POST.get(name, "") for name in form.fields}
            form = StartTaskForm(user=request.user, initial=values)
            return self._show(request, _Page(form, template, _params(template)))
        page = _Page(form, template, _params(template, request.POST))
        if not all([form.is_valid(), page.params is None or page.params.is_valid()]):
            return self._show(request, page, status=400)
        try:
            return self._plan_or_start(request, page)
        except SAID as error:
            page.problem = error.message
            if isinstance(error, InvalidInput):
                _mark(page, error)
            return self._show(request, page, status=400)

    def _plan_or_start(self, request: HttpRequest, page: _Page) -> HttpResponse:
        chosen = page.form.cleaned_data
        selected = selection.parse_machines(chosen["machines"], user=request.user)
        old = selection.parse_machines(
            chosen["replaced"] if page.template.groups else "", user=request.user
        )
        page.unknown = [*selected.unknown, *old.unknown]
        params = editor.given(page.params) if page.params is not None else {}
        steps = page.form.steps()
        common: dict[str, Any] = {
            "cluster": chosen["cluster"],
            "machines": selected.machines,
            "specs": start.specs_of(page.template, steps=steps, params=params),
            "acting_user": request.user,
            "replaced": old.machines,
            "batches": start.Batches(
                chosen["batch_size"], chosen["batch_pause"], chosen["max_failed_percent"]
            ),
        }
        page.plan = start.plan_task(**common)
        step = request.POST.get("step")
        is_hidden = page.unknown or page.plan.blockers
        if step != "start_ready" and (step != "start" or is_hidden):
            return self._show(request, page)
        _refuse_other_version(request, page)
        task = start.start_task(
            **common,
            template=page.template.name,
            version=page.template.version,
            params=params,
            reason=chosen["reason"],
            priority=chosen["priority"],
            leave_out_blocked=step == "start_ready",
            versions=page.versions_below,
        )
        url = reverse("admin:operations_autooperationtask_change", args=[task.pk])
        return HttpResponseRedirect(url)

    def _show(self, request: HttpRequest, page: _Page, status: int = 200) -> HttpResponse:
        first = page.plan.first if page.plan else None
        others = list(page.plan.plans.values())[1:] if page.plan else []
        context = {
            **admin.site.each_context(request),
            "title": _("Start a task"),
            "page": page,
            "plan": page.plan,
            "first": first,
            "plan_steps": [catalog.named(each.name) for each in page.plan.specs]
            if page.plan
            else [],
            "blocked": [each for each in page.plan.blockers if each.machine] if page.plan else [],
            "others": others,
            "whole_blockers": [each for each in page.plan.blockers if not each.machine]
            if page.plan
            else [],
            "steps": [catalog.named(name) for name in page.template.steps],
            "candidates": _candidates(request, page),
            "candidates_max": CANDIDATES_MAX,
            "templates": list(page.form.templates.values()),
        }
        return TemplateResponse(request, "operations/start_task.html", context, status=status)


_PLACES = {"batches": "batch_size"}  # the API's field -> that of the form


def _mark(page: _Page, error: InvalidInput) -> None:
    """Each mistake stands at its field; those that have none here are listed above."""
    for place, sentence in error.fields.items():
        name = _PLACES.get(place, place)
        if name in page.form.fields:
            page.form.add_error(name, sentence)
        else:
            page.problems[name] = sentence
    if error.fields and not page.problems:
        page.problem = ""


def _template(name: str) -> Template:
    """The chosen template; ScaleUp when none, an unknown or a withdrawn one is named."""
    try:
        return finding.template(name)
    except InvalidInput:
        return catalog.TEMPLATES["ScaleUp"]


def _refuse_other_version(request: HttpRequest, page: _Page) -> None:
    """What somebody has looked at is what begins."""
    template = page.template
    if request.POST.get("versions_below", "") not in ("", page.looked_at):
        raise Conflict(
            _(
                "Another template, or another version of one, is below it by now. Look at it, "
                "then start once more."
            ),
            code="changed_meanwhile",
        )
    if request.POST.get("template_version", str(template.version)) != str(template.version):
        raise Conflict(
            _("The template has version %(number)s by now. Look at it, then start once more.")
            % {"number": template.version},
            code="changed_meanwhile",
        )


def _params(template: Template, data: Any = None) -> Any:
    return None if template.content is None else editor.param_form(template.content, data)


def _machines_text(values: QueryDict) -> str:
    """``machines`` may come once with many or many times with one."""
    return "\n".join(part for part in values.getlist("machines") if part)


def _candidates(request: HttpRequest, page: _Page) -> list[Machine]:
    """Machines that could take part, to pick from; of the chosen cluster, if they must be in
    one."""
    cluster = as_key(page.form["cluster"].value() or "")
    kind = operation_kinds.KINDS.get(page.template.begins_with or page.template.name)
    if kind is None:  # no step says which
        machines = Machine.objects.filter(cluster=cluster or 0).order_by("rack", "address")
        seen = permissions.visible_to(request.user, machines, permissions.OPERATE)
        return list(seen[:CANDIDATES_MAX])
    rows = Machine.objects.filter(state__in=kind.startable_states).order_by("rack", "address")
    if kind.startable_states <= Machine.IN_CLUSTER and cluster is not None:
        rows = rows.filter(cluster=cluster)
    visible = permissions.visible_to(request.user, rows.select_related("node"), kind.permission)
    fitting = filter(kind.concerns, visible.iterator(chunk_size=CANDIDATES_MAX))
    return list(islice(fitting, CANDIDATES_MAX))


@login_required
@require_GET
def task_manifest(request: HttpRequest, pk: int) -> HttpResponse:
    rows = permissions.visible_to(request.user, AutoOperationTask.objects.select_related("cluster"))
    task = get_object_or_404(rows, pk=pk)
    response = HttpResponse(
        manifest.as_manifest(task), content_type="application/yaml; charset=utf-8"
    )
    response["Content-Disposition"] = f'attachment; filename="{task.name}.yaml"'
    return response
