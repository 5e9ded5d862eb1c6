"""Import in two pages: what would happen, and the deed.

The file waits in the portal's storage between both, under a name only its sender can know; any
replica can answer the second page.  The fleet may change meanwhile: the form remembers a digest of
what was shown, and nothing else is applied.
"""

import re
import secrets
from typing import Any, Final

from django.contrib import messages
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from import_export.results import Result, RowResult

from beidou.base.errors import SAID, InvalidInput
from machines.admin.forms import ImportForm
from machines.files import reading, report
from machines.files.resource import COLUMNS, MachineResource

SHOWN: Final = 500  # rows on one page; all are counted
_TOKEN = re.compile(r"[0-9a-f]{32}\.(csv|xlsx)")


def import_page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """The form; after sending a file, the differences and mistakes; after agreeing, the list."""
    if request.method == "POST" and request.POST.get("token"):
        return _apply(model_admin, request)
    form = ImportForm(request.POST or None, request.FILES or None)
    context: dict[str, Any] = {"form": form, "columns": COLUMNS}
    if request.method == "POST" and form.is_valid():
        try:
            context |= _plan(request, form)
        except InvalidInput as error:
            form.add_error("file", error.message)
    return _page(model_admin, request, context)


def _page(model_admin: Any, request: HttpRequest, context: dict[str, Any]) -> TemplateResponse:
    return TemplateResponse(
        request,
        "admin/machines/machine/import.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": _("Import machines"),
            **context,
        },
    )


def _plan(request: HttpRequest, form: ImportForm) -> dict[str, Any]:
    upload, reason = form.cleaned_data["file"], form.cleaned_data["change_reason"]
    content = reading.content_of(upload)
    found = _dry_run(request, upload.name, content, reason)
    if not found["mistakes"]:
        token = f"{secrets.token_hex(16)}.{reading.kind_of(upload.name)}"
        _forget_earlier(request)
        default_storage.save(_path(request, token), ContentFile(content))
        found["token"] = token
    return {**found, "file_name": upload.name, "change_reason": reason}


def _dry_run(request: HttpRequest, name: str, content: bytes, reason: str) -> dict[str, Any]:
    dataset = reading.read(name, content)
    resource = MachineResource(user=request.user, change_reason=reason, file_name=name)
    result = resource.import_data(dataset, dry_run=True)
    mistakes = report.mistakes_of(result, dataset.headers)
    return {"mistakes": mistakes, **({} if result.base_errors else _differences(result))}


def _differences(result: Result) -> dict[str, Any]:
    changes = report.changes_of(result)
    return {
        "shown": report.digest_of(result),
        "changes": changes[:SHOWN],
        "more_changes": max(len(changes) - SHOWN, 0),
        "totals": {
            "new": result.totals[RowResult.IMPORT_TYPE_NEW],
            "changed": result.totals[RowResult.IMPORT_TYPE_UPDATE],
            "unchanged": result.totals[RowResult.IMPORT_TYPE_SKIP],
            "rows": result.total_rows,
        },
    }


def _forget_earlier(request: HttpRequest) -> None:
    """One file waits per person: what was never applied does not pile up."""
    folder = f"imports/{request.user.pk}"
    if default_storage.exists(folder):
        for name in default_storage.listdir(folder)[1]:
            default_storage.delete(f"{folder}/{name}")


def _path(request: HttpRequest, token: str) -> str:
    return f"imports/{request.user.pk}/{token}"


def _apply(model_admin: Any, request: HttpRequest) -> HttpResponse:
    token, name = request.POST["token"], request.POST.get("file_name", "")[:200]
    reason = request.POST.get("change_reason", "")[:500]
    if not _TOKEN.fullmatch(token) or not default_storage.exists(_path(request, token)):
        messages.error(request, _("This import was applied already or is too old; send the file."))
        return HttpResponseRedirect(reverse("admin:machines_machine_import"))
    with default_storage.open(_path(request, token)) as file:
        content = file.read()
    dataset = reading.read(token, content)
    resource = MachineResource(user=request.user, change_reason=reason, file_name=name)
    try:
        shown = request.POST.get("shown", "")
        result = resource.import_data(dataset, dry_run=False, agreed=shown)
    except SAID as error:
        messages.error(request, error.message)
        return HttpResponseRedirect(reverse("admin:machines_machine_import"))
    mistakes = report.mistakes_of(result, dataset.headers)
    if not mistakes and report.digest_of(result) != shown:
        messages.error(
            request,
            _("The machines have changed since the differences were shown; nothing was imported. "
              "Look at the new differences and import again."),
        )  # fmt: skip
        again = {"token": token, "file_name": name, "change_reason": reason}
        return _page(
            model_admin,
            request,
            {"form": ImportForm(), "columns": COLUMNS, **_differences(result), **again},
        )
    default_storage.delete(_path(request, token))
    if mistakes:  # the fleet changed between both pages
        form = ImportForm()
        return _page(model_admin, request, {"form": form, "columns": COLUMNS, "mistakes": mistakes})
    messages.success(
        request,
        _("Imported: %(new)d new, %(changed)d changed, %(unchanged)d unchanged.")
        % {
            "new": result.totals[RowResult.IMPORT_TYPE_NEW],
            "changed": result.totals[RowResult.IMPORT_TYPE_UPDATE],
            "unchanged": result.totals[RowResult.IMPORT_TYPE_SKIP],
        },
    )
    return HttpResponseRedirect(reverse("admin:machines_machine_changelist"))
