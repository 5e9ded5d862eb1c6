"""Two people with the same form open: the second is told, instead of undoing what the first did.

A form posts all of its fields, also those that its person did not touch and that somebody else has
changed meanwhile.  So the page carries a mark of each value that it shows; where the stored value
has another one by now, the form is refused once and shows the marks of now, so that saving it again
is a decision.  What is not in the form (states, observations) may change as it likes.
"""

import hashlib
import json
from typing import Any

from django import forms
from django.db import models
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from beidou.base import audit

FIELD = "_seen"
Marks = dict[str, str]


def marks_of(obj: models.Model) -> Marks:
    """Field -> a few characters that differ when its value does."""
    return {
        name: hashlib.sha256(str(value).encode()).hexdigest()[:8]
        for name, value in audit.snapshot(obj).items()
    }


def guarded(form: Any, request: HttpRequest, obj: models.Model | None) -> Any:
    """``form``, a class of forms about ``obj``, refusing what is older than the stored row."""
    if obj is None:
        return form
    # Asked for several times per request, after the first also of an object that the form changed.
    if not hasattr(request, "marks_of_now"):
        request.marks_of_now = marks_of(obj)  # type: ignore[attr-defined]
    now: Marks = request.marks_of_now  # type: ignore[attr-defined]
    return type(form)(form.__name__, (_Guard, form), {"marks_of_now": now})


def as_text(request: HttpRequest) -> str:
    """What the page carries; empty where no object is edited."""
    marks = getattr(request, "marks_of_now", {})
    return json.dumps(marks) if marks else ""


class _Guard:
    marks_of_now: Marks
    data: Any
    fields: dict[str, forms.Field]

    def clean(self) -> Any:
        cleaned = super().clean()  # type: ignore[misc]
        changed = [
            str(capfirst(self.fields[name].label or name))
            for name, mark in _read(self.data.get(FIELD, "")).items()
            if name in self.fields and self.marks_of_now.get(name, mark) != mark
        ]
        if changed:
            raise forms.ValidationError(
                _(
                    "Somebody else has changed this meanwhile: %(fields)s. Below is what you "
                    "entered. Load the page again to see theirs, or save again to overwrite it."
                ),
                params={"fields": ", ".join(changed)},
                code="changed_meanwhile",
            )
        return cleaned


def _read(text: str) -> Marks:
    """The posted marks; none of a form that carries none, as programs send it."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
