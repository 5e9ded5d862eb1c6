"""Making a cluster: describe it, give machines their roles, look at the plan, begin.

As on the page that starts operations: each press of a button posts the whole form, and "Create" is
taken only for exactly what the plan was shown for.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import View

from beidou.base import permissions
from beidou.base.errors import SAID, InvalidInput
from beidou.base.numbers import as_key
from clusters.admin.forms import DetailsForm
from clusters.services import creation
from machines.models import Machine
from operations.durations import spoken_range
from operations.flows import creating
from operations.forms import CreateClusterForm, ParamsForm, fingerprint, place_problems
from operations.kinds import base as kinds
from operations.kinds.create_cluster.planning import COMPUTE, CONTROL_PLANE
from operations.services import create_cluster
from operations.services.create_cluster import Wish
from operations.services.start import Plan

CANDIDATES_MAX = 300
ROLES = (CONTROL_PLANE, COMPUTE)
_PREFIX = "role-"


@dataclass
class _Page:
    """What the page shows; ``roles`` are those chosen so far, by key of the machine."""

    details: DetailsForm
    settings: CreateClusterForm
    params: ParamsForm
    roles: dict[int, str] = field(default_factory=dict)
    plan: Plan | None = None
    planned: str = ""
    problem: str = ""
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def forms(self) -> tuple[Any, ...]:
        return self.details, self.settings, self.params


class CreateClusterView(LoginRequiredMixin, View):
    """GET shows the form, POST plans or begins; for whoever may add clusters."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and not request.user.has_perm(creation.ADD):
            raise PermissionDenied(_("Creating clusters needs the permission to add clusters."))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        page = self._page(request, None)
        page.settings.initial["approval"] = request.GET.get("approval") == "on"
        return self._show(request, page)

    def post(self, request: HttpRequest) -> HttpResponse:
        page = self._page(request, request.POST)
        page.roles = _roles(request.POST)
        valid = [form.is_valid() for form in page.forms]  # each is asked: all errors are shown
        if not all(valid):
            return self._show(request, page, status=400)
        try:
            return self._plan_or_create(request, page)
        except SAID as error:
            page.problem = error.message
            if isinstance(error, InvalidInput) and error.fields:
                page.problems = place_problems(page.forms, error.fields)
                page.problem = error.message if page.problems else ""
            return self._show(request, page, status=400)

    def _page(self, request: HttpRequest, data: Any) -> _Page:
        user: Any = request.user
        return _Page(
            DetailsForm(data, user=user),
            CreateClusterForm(data, user=user),
            ParamsForm(data, kind=kinds.get(create_cluster.KIND)),
        )

    def _plan_or_create(self, request: HttpRequest, page: _Page) -> HttpResponse:
        user: Any = request.user
        wish, given = _wish(page, user), page.settings.cleaned_data
        page.plan = create_cluster.plan(wish=wish, acting_user=user)
        page.planned = _digest(page)
        if request.POST.get("step") != "start":
            return self._show(request, page)
        if request.POST.get("planned") != page.planned:
            page.problem = _("What is chosen has changed since this plan. Look at it once more.")
            return self._show(request, page, status=409)
        if given["approval"]:
            task = creating.begin(wish=wish, acting_user=user, reason=given["reason"])
            url = reverse("admin:operations_autooperationtask_change", args=[task.pk])
        else:
            operation = create_cluster.create(
                wish=wish, acting_user=user, reason=given["reason"], forks=given["forks"]
            )
            url = reverse("admin:operations_operation_change", args=[operation.pk])
        return HttpResponseRedirect(url)

    def _show(self, request: HttpRequest, page: _Page, status: int = 200) -> HttpResponse:
        plan = page.plan
        context = {
            **admin.site.each_context(request),
            "title": _("Create a cluster"),
            "page": page,
            "plan": plan,
            "estimate": spoken_range(*plan.seconds) if plan and plan.seconds else "",
            "blocked": [each for each in plan.blockers if each.machine] if plan else [],
            "ready": _with_roles(plan.ready, page.roles) if plan else [],
            "has_errors": any(form.is_bound and form.errors for form in page.forms),
            "candidates": _with_roles(_candidates(request), page.roles),
            "candidates_max": CANDIDATES_MAX,
            "roles": ROLES,
        }
        return TemplateResponse(request, "operations/create_cluster.html", context, status=status)


def _roles(values: Mapping[str, Any]) -> dict[int, str]:
    """``role-17=ControlPlane`` -> {17: "ControlPlane"}; machines without a role are left out."""
    found = {}
    for name, role in values.items():
        key = as_key(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
        if key is not None and role in ROLES:
            found[key] = role
    return found


def _wish(page: _Page, user: Any) -> Wish:
    """The control planes first, each kind in the order of the addresses: the first is made."""
    rows = permissions.visible_to(user, Machine.objects.filter(pk__in=page.roles))
    machines = sorted(
        rows.select_related("credential"),
        key=lambda machine: (ROLES.index(page.roles[machine.pk]), machine.pk),
    )
    return Wish(
        details=page.details.to_details(),
        machines=machines,
        roles={machine.pk: page.roles[machine.pk] for machine in machines},
        params=page.params.params,
        settings=page.settings.to_settings(),
        registry_mirror=page.settings.cleaned_data["registry_mirror"],
    )


def _candidates(request: HttpRequest) -> list[Machine]:
    """Free machines on which one may run operations."""
    kind = kinds.get(create_cluster.KIND)
    rows = Machine.objects.filter(state__in=kind.startable_states).order_by("rack", "address")
    visible = permissions.visible_to(request.user, rows, kind.permission)
    return list(visible[:CANDIDATES_MAX])


def _with_roles(machines: Any, roles: Mapping[int, str]) -> list[tuple[Machine, str]]:
    return [(machine, roles.get(machine.pk, "")) for machine in machines]


def _digest(page: _Page) -> str:
    """As on the page that starts operations."""
    assert page.plan is not None  # noqa: S101
    values = {
        "details": {name: str(value) for name, value in page.details.cleaned_data.items()},
        "settings": {name: str(value) for name, value in page.settings.cleaned_data.items()},
        "params": page.params.params,
        "roles": page.roles,
        "ready": [machine.pk for machine in page.plan.ready],
    }
    return hashlib.sha256(fingerprint(values).encode()).hexdigest()
