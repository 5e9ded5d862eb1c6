"""What was tried by a request that was refused: kept in its audit entry, and told on pages."""

from typing import Any

from django.apps import apps
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext

from beidou.base import verbs
from beidou.base.models import AuditEntry

REFUSED = "refused"
_DEEDS = {
    "create": "add",
    "update": "change",
    "partial_update": "change",
    "destroy": "delete",
    "list": "read",
    "retrieve": "read",
}


def of(request: HttpRequest, about: models.Model | None) -> dict[str, str]:
    """``tried``: the deed; ``kind``: of what; ``object``: the name of what the right was missing
    on.  Only what is known."""
    match = request.resolver_match
    known = {"tried": "", "kind": "", "object": str(about) if about is not None else ""}
    actions = getattr(match.func, "actions", None) if match else None
    if match and actions:
        name = str(actions.get((request.method or "").lower(), ""))
        known["tried"] = _DEEDS.get(name, name.replace("_", " "))
        rows = getattr(getattr(match.func, "cls", None), "queryset", None)
        known["kind"] = rows.model._meta.label_lower if rows is not None else ""
    elif match and match.url_name and request.method != "GET":
        # The admin calls its addresses app_model_deed.
        known["tried"] = match.url_name.rsplit("_", 1)[-1]
        known["kind"] = about._meta.label_lower if about is not None else ""
    return {name: value for name, value in known.items() if value}


def told(entry: AuditEntry) -> str:
    """The deed in the language of the reader; of a refused one, what was tried."""
    if entry.verb != REFUSED:
        return verbs.shown(entry.verb)
    after: dict[str, Any] = entry.after
    tried, kind, name = (str(after.get(key, "")) for key in ("tried", "kind", "object"))
    if not tried:  # as of all that were written before attempts were kept
        return gettext("refused: %(what)s") % {"what": entry.object_name}
    what = f"{verbs.shown(tried)} {_called(kind)}".strip()
    if not name:
        what = f"{what} ({entry.object_name})"
    elif kind == entry.object_type:
        what = f"{what} {name}"
    else:
        what = f"{what} ({_called(entry.object_type)} {name})"
    return gettext("refused: %(what)s") % {"what": what}


def _called(label: str) -> str:
    try:
        return str(apps.get_model(label)._meta.verbose_name)
    except (LookupError, ValueError):
        return label
