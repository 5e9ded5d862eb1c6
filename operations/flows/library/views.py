"""Looking at a template, and writing one."""

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import View

from beidou.base import permissions
from beidou.base.errors import SAID, InvalidInput
from beidou.base.numbers import as_key
from clusters.models import Cluster
from clusters.services import creation
from operations.flows import catalog
from operations.flows.library import content as contents
from operations.flows.library import editor, finding, saving
from operations.flows.library.models import TaskTemplate, TemplateVersion
from operations.flows.models import TaskStep

VERSIONS_SHOWN = 100


def _own(name: str) -> TaskTemplate:
    row = TaskTemplate.objects.filter(name=name).first()
    if row is None:
        raise Http404(_("There is no template “%(name)s”.") % {"name": name})
    return row


def _version(row: TaskTemplate, text: str) -> TemplateVersion:
    try:
        return finding.version_of(row, as_key(text) if text else None)
    except InvalidInput as error:
        raise Http404(error.message) from error


class TemplateView(LoginRequiredMixin, View):
    """One template, in one of its versions (``?version=``), beside another (``?with=``)."""

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        made = catalog.TEMPLATES.get(name)
        row = None if made else _own(name)
        version = _version(row, request.GET.get("version", "")) if row else None
        other = None
        if row is not None and (text := request.GET.get("with", "")):
            other = _version(row, text)
        raw = finding.raw_of(made) if made else version.content if version else {}
        context = {
            **admin.site.each_context(request),
            "title": str(made.title) if made else raw.get("title") or name,
            "name": name,
            "row": row,
            "version": version,
            "raw": raw,
            "problem": _problem(version),
            "cards": editor.cards(raw),
            "steps": [_shown(step) for step in raw.get("steps", [])],
            "yaml": contents.as_yaml(raw),
            "versions": list(row.versions.order_by("-number")[:VERSIONS_SHOWN]) if row else [],
            "other": other,
            "difference": contents.difference(other.content, raw) if other else None,
            "may_write": saving.may_write(request.user),
            "start_url": _start_url(request.user, name, made),
            "may_copy": saving.may_write(request.user) and not (made and made.makes_cluster),
        }
        return TemplateResponse(request, "operations/template.html", context)


def _start_url(user: Any, name: str, made: catalog.Template | None) -> str:
    """Where a task begins with it; empty for whoever may begin none."""
    if made is not None and made.makes_cluster:
        may, url = (
            user.has_perm(creation.ADD),
            f"{reverse('operations:create_cluster')}?approval=on",
        )
    else:
        may = permissions.may_anywhere(user, Cluster, permissions.OPERATE)
        url = f"{reverse('operations:start_task')}?{urlencode({'template': name})}"
    return url if may else ""


def _problem(version: TemplateVersion | None) -> str:
    """Why tasks cannot begin with it any more."""
    if version is None:
        return ""
    try:
        finding.of(version)
    except InvalidInput as error:
        return error.message
    return ""


def _shown(step: Mapping[str, Any]) -> dict[str, Any]:
    named = editor.known(str(step.get("step", "")))
    fields = editor.labels(named) if named else {}
    on_failure = step.get("on_failure", "stop")
    known = dict(TaskStep.OnFailure.choices)
    return {
        **step,
        "title": named.title if named else step.get("step", ""),
        "failure": known.get(on_failure, on_failure),
        "values": [(fields.get(key, key), value) for key, value in step.get("params", {}).items()],
        "chosen": [fields.get(key, key) for key in step.get("settable", [])],
    }


class OfferView(LoginRequiredMixin, View):
    """Withdraws a template, or offers it again."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        saving.require_writer(request.user)
        row = _own(name)
        is_offered = request.POST.get("offer") == "yes"
        try:
            saving.offer(row, is_offered=is_offered, acting_user=request.user)  # type: ignore[arg-type]
        except SAID as error:
            messages.error(request, error.message)
        else:
            said = _("Tasks can begin with it.") if is_offered else _("No task begins with it now.")
            messages.success(request, said)
        return HttpResponseRedirect(reverse("operations:template", args=[name]))


class EditView(LoginRequiredMixin, View):
    """The editor: of a new template (``?copy=NAME``), or of the next version of one."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated:
            saving.require_writer(request.user)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, name: str = "") -> HttpResponse:
        if name:
            row = _own(name)
            version = _version(row, request.GET.get("version", ""))
            data = editor.data_of(version.content, name=name, base=row.version)
        else:
            copied = request.GET.get("copy", "")
            data = editor.data_of(_content_of(copied), name=f"{copied}-copy"[:40] if copied else "")
        draft = editor.Draft(data)
        draft.hide_errors()
        return self._show(request, draft, name)

    def post(self, request: HttpRequest, name: str = "") -> HttpResponse:
        row = _own(name) if name else None
        draft = editor.Draft(request.POST)
        action, _colon, part = request.POST.get("do", "").partition(":")
        if action == "yaml":
            return self._take_yaml(request, draft, name)
        draft.act(action, part)
        is_lost = _is_not_taken(request)  # if it were not shown again
        if action not in ("save", "check"):
            draft.hide_errors()
            text: dict[str, Any] = {"yaml": request.POST["yaml"]} if is_lost else {}
            return self._show(request, draft, name, **text)
        if is_lost:
            draft.hide_errors()
            sentence = _("The text is another than the form: take it over first, or empty it.")
            return self._show(request, draft, name, status=400, problem=sentence,
                              yaml=request.POST["yaml"], wrong={"": sentence})  # fmt: skip
        try:
            content = draft.read()
            if action == "check":
                if not row and (sentence := saving.name_problem(draft.name)):
                    raise contents.refusal({"name": sentence})
                return self._show(request, draft, name, said=_("Nothing is wrong with it."))
            where = self._save(request, draft, content, row)
        except saving.ChangedMeanwhile as error:
            draft.data["base"] = str(error.newest.number)
            return self._show(request, draft, name, status=409, problem=error.message,
                              newest=error.newest)  # fmt: skip
        except InvalidInput as error:
            draft.place(error)
            problem = _("Please correct what is marked below.")
            return self._show(request, draft, name, status=400, problem=problem)
        except SAID as error:
            return self._show(request, draft, name, status=409, problem=error.message)
        return HttpResponseRedirect(where)

    def _save(
        self,
        request: HttpRequest,
        draft: editor.Draft,
        content: contents.Content,
        row: TaskTemplate | None,
    ) -> str:
        common: dict[str, Any] = {
            "content": content,
            "comment": draft.head.cleaned_data.get("comment", ""),
            "acting_user": request.user,
        }
        if row is None:
            row = saving.create(name=draft.name, **common)
            messages.success(request, _("Template %(name)s is saved.") % {"name": row.name})
        else:
            base = as_key(draft.data.get("base", "")) or 0
            version = saving.save_version(row, base=base, **common)
            messages.success(
                request, _("Version %(number)s is saved.") % {"number": version.number}
            )
        return reverse("operations:template", args=[row.name])

    def _take_yaml(self, request: HttpRequest, draft: editor.Draft, name: str) -> HttpResponse:
        """The pasted text in the place of everything but name, base and comment."""
        text = request.POST.get("yaml", "")
        try:
            raw = contents.from_yaml(text)
            found = contents.parse(raw)
        except InvalidInput as error:
            draft.hide_errors()
            wrong = error.fields or {"": error.message}
            return self._show(request, draft, name, status=400, yaml=text, wrong=wrong,
                              problem=_("The text cannot be taken over."))  # fmt: skip
        kept = draft.data
        taken = editor.Draft(
            editor.data_of(
                contents.stored(found),
                name=kept.get("name", ""),
                base=as_key(kept.get("base", "")) or 0,
                comment=kept.get("comment", ""),
            )
        )
        try:
            saving.check(contents.read(contents.stored(found)), taken.name)
        except InvalidInput as error:
            taken.place(error)
        return self._show(request, taken, name, said=_("The text was taken over; save it now."))

    def _show(
        self, request: HttpRequest, draft: editor.Draft, name: str, status: int = 200, **more: Any
    ) -> HttpResponse:
        newest: TemplateVersion | None = more.get("newest")
        raw = draft.raw
        text = contents.as_yaml(draft.short)
        context = {
            **admin.site.each_context(request),
            "title": _("Edit %(name)s") % {"name": name} if name else _("New template"),
            "name": name,
            "draft": draft,
            "base": draft.data.get("base", "0"),
            "cards": editor.cards(raw),
            "types": editor.types(),
            "yaml": text,
            "yaml_shown": _mark_of(text),
            "difference": contents.difference(newest.content, draft.short) if newest else None,
            "yaml_is_own": more.get("yaml", text) != text,
            **more,
        }
        return TemplateResponse(request, "operations/template_edit.html", context, status=status)


def _is_not_taken(request: HttpRequest) -> bool:
    """Whether somebody has written another text than the page showed, and did not take it over."""
    text, shown = request.POST.get("yaml", ""), request.POST.get("yaml_shown", "")
    return bool(shown and text.strip() and _mark_of(text) != shown)


def _mark_of(text: str) -> str:
    lines = text.strip().splitlines()
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _content_of(name: str) -> Mapping[str, Any]:
    """What a copy begins with; nothing, where nothing is copied."""
    if not name:
        return {}
    if (made := catalog.TEMPLATES.get(name)) is not None:
        if made.makes_cluster:
            raise Http404  # its steps are for a cluster that is not there yet
        return finding.raw_of(made)
    row = _own(name)
    content: Mapping[str, Any] = _version(row, "").content
    return content
