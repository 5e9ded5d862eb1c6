"""The form in which a template is written: a head, and one part per step.

Everything that was typed is in what is posted, so that nothing is kept between two presses of a
button, and whoever has no script has the same editor.  A part has an id of its own (``r3``): steps
name each other by it, so that a key may be changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.forms.utils import ErrorDict
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from beidou.base.errors import InvalidInput
from operations.flows import catalog, graph
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.library import steps as step_types
from operations.flows.library.content import Problems
from operations.flows.models import TaskStep
from operations.forms import schema_fields

_EMPTY: tuple[Any, ...] = ("", None, [], {})


class HeadForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=40,
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"spellcheck": "false"}),
        help_text=gettext_lazy("Letters, digits and inner hyphens; it cannot be changed later."),
    )
    title = forms.CharField(
        label=gettext_lazy("Title"),
        max_length=100,
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    replaces = forms.BooleanField(
        label=gettext_lazy("Replaces machines"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=gettext_lazy("Some come in; others go out once those have, as ReplaceMachine."),
    )
    comment = forms.CharField(
        label=gettext_lazy("What has changed"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept with the version and in the audit trail."),
    )


class StepForm(forms.Form):
    """One step; ``others`` are (id, key) of those that it may come after."""

    key = forms.CharField(
        label=gettext_lazy("Key"),
        max_length=40,
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"spellcheck": "false"}),
        help_text=gettext_lazy("Its own name in this template."),
    )
    step = forms.ChoiceField(
        label=gettext_lazy("Type"), required=False, widget=UnfoldAdminSelectWidget
    )
    needs = forms.MultipleChoiceField(
        label=gettext_lazy("Comes after"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=gettext_lazy("None: it begins with the task."),
    )
    on_failure = forms.ChoiceField(
        label=gettext_lazy("When it fails"),
        choices=TaskStep.OnFailure.choices,
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    compensates = forms.MultipleChoiceField(
        label=gettext_lazy("Done only after a failure of"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=gettext_lazy(
            "With the machines that failed there; after a gate, say, which fails none, with all of "
            "them. It comes after nothing else."
        ),
    )
    settable = forms.MultipleChoiceField(
        label=gettext_lazy("May be chosen when a task begins"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
    )

    def __init__(self, data: QueryDict, row: str, *, others: Sequence[tuple[str, str]]) -> None:
        super().__init__(data, prefix=row)
        self.row = row
        self.chosen_settable = bool(data.getlist(f"{row}-settable"))
        self.name = data.get(f"{row}-step", "")
        self.named = known(self.name)
        self._choose("step", types(self.name))
        self._choose("needs", others)
        self._choose("compensates", others)
        self.schema = step_types.schema_of(self.named) if self.named else {"properties": {}}
        params = schema_fields(self.schema)
        self._choose("settable", [(name, each.label or name) for name, each in params.items()])
        if not params:
            del self.fields["settable"]
        if not others:
            del self.fields["needs"], self.fields["compensates"]
        for name, field in params.items():
            self.fields[f"p_{name}"] = field

    def _choose(self, name: str, choices: Any) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = choices

    @property
    def title(self) -> Any:
        return self.named.title if self.named else self.name

    @property
    def param_fields(self) -> list[Any]:
        return [self[name] for name in self.fields if name.startswith("p_")]

    def raw(self, keys: Mapping[str, str]) -> dict[str, Any]:
        """What was understood of it; ``keys`` are those of the parts."""
        found = self.cleaned_data
        params = {}
        for name, part in self.schema["properties"].items():
            value = found.get(f"p_{name}")
            if value not in _EMPTY and value != part.get("default"):
                params[name] = value
        raw: dict[str, Any] = {
            "key": found.get("key", ""),
            "step": self.name,
            "params": params,
            "needs": [keys[row] for row in found.get("needs", []) if row in keys],
            "on_failure": found.get("on_failure") or "stop",
            "compensates": [keys[row] for row in found.get("compensates", []) if row in keys],
            "settable": found.get("settable", []),
        }
        return raw


def known(name: str) -> catalog.Named | None:
    try:
        return catalog.named(name)
    except InvalidInput:
        return None


def labels(named: catalog.Named) -> dict[str, Any]:
    """What the parameters are called on pages."""
    fields = schema_fields(step_types.schema_of(named))
    return {name: each.label or name for name, each in fields.items()}


def types(chosen: str = "") -> list[Any]:
    """What a step can be, in the groups of a choice; one that is none any more is among them."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for named in step_types.names():
        is_change = named.kind == "operation"
        group = _("Operations") if is_change else _("Decisions, waits and news")
        groups.setdefault(group, []).append((named.name, f"{named.title} ({named.name})"))
    there = {name for each in groups.values() for name, _label in each}
    others = [] if not chosen or chosen in there else [(chosen, chosen)]
    return [*others, *groups.items()]


def data_of(
    raw: Mapping[str, Any], *, name: str = "", base: int = 0, comment: str = ""
) -> QueryDict:
    """What the form would post of this content; of content that makes no sense, what does."""
    data = QueryDict(mutable=True)
    data.update({"name": name, "base": str(base), "comment": comment})
    data["title"] = str(raw.get("title") or "")
    data["description"] = str(raw.get("description") or "")
    if raw.get("replaces"):
        data["replaces"] = "on"
    steps = [each for each in raw.get("steps") or [] if isinstance(each, Mapping)]
    rows = {str(step.get("key", "")): f"r{number}" for number, step in enumerate(steps, start=1)}
    for number, step in enumerate(steps, start=1):
        row = f"r{number}"
        data.appendlist("row", row)
        data[f"{row}-key"] = str(step.get("key", ""))
        data[f"{row}-on_failure"] = str(step.get("on_failure", "stop"))
        for field in ("needs", "compensates"):
            data.setlist(f"{row}-{field}", [rows[k] for k in step.get(field, []) if k in rows])
        data.setlist(f"{row}-settable", [str(each) for each in step.get("settable", [])])
        _set_type(data, row, str(step.get("step", "")), step.get("params") or {})
    return data


def _set_type(data: QueryDict, row: str, name: str, params: Mapping[str, Any]) -> None:
    """The fields of the type, with these values or those they have by default."""
    data[f"{row}-step"] = data[f"{row}-of"] = name
    for old in [each for each in data if each.startswith(f"{row}-p_")]:
        del data[old]
    named = known(name)
    if named is None:
        return
    schema = step_types.schema_of(named)
    for field_name, field in schema_fields(schema).items():
        value = params.get(field_name, schema["properties"][field_name].get("default"))
        if isinstance(field, forms.BooleanField):
            value = "on" if value else None
        elif value is not None:
            value = field.prepare_value(value)
        if value is not None:
            data[f"{row}-p_{field_name}"] = str(value)


class Draft:
    """What was posted, and what becomes of it by a button."""

    def __init__(self, data: QueryDict) -> None:
        self.data = data.copy()
        self.rows = [
            row
            for row in dict.fromkeys(self.data.getlist("row"))
            if row[:1] == "r" and row[1:].isascii() and row[1:].isdigit() and len(row) < 6
        ][: graph.STEPS_MAX]
        for row in self.rows:
            if self.data.get(f"{row}-step") != self.data.get(f"{row}-of"):
                self._change_type(row)
        self.problems: Problems = {}
        self._make_forms()

    def _make_forms(self) -> None:
        self.data.setlist("row", self.rows)
        self.keys = {row: self.data.get(f"{row}-key", "").strip() for row in self.rows}
        self.head = HeadForm(self.data)
        self.steps = [StepForm(self.data, row, others=self._others(row)) for row in self.rows]
        for form in (self.head, *self.steps):
            form.full_clean()

    def _others(self, row: str) -> list[tuple[str, str]]:
        """Those before it, and any it was made to come after."""
        index = self.rows.index(row)
        chosen = {*self._asked(row, "needs"), *self._asked(row, "compensates")}
        return [
            (other, self.keys[other] or other)
            for place, other in enumerate(self.rows)
            if other != row and (place < index or other in chosen)
        ]

    def _asked(self, row: str, field: str) -> list[str]:
        return [each for each in self.data.getlist(f"{row}-{field}") if each in self.rows]

    # --- buttons ------------------------------------------------------------------------------

    def act(self, action: str, row: str = "") -> None:
        """``add``, ``remove``, ``up`` or ``down``; anything else leaves it as it is."""
        is_chain = self._is_chain()
        if action == "add" and len(self.rows) < graph.STEPS_MAX:
            self._add(self.data.get("new", ""))
        elif action == "remove" and row in self.rows:
            self._remove(row)
        elif action in ("up", "down") and row in self.rows:
            here = self.rows.index(row)
            there = here + (-1 if action == "up" else 1)
            if 0 <= there < len(self.rows):
                self.rows[here], self.rows[there] = self.rows[there], self.rows[here]
                if is_chain:
                    self._chain()
        self._make_forms()

    def _is_chain(self) -> bool:
        return all(
            self._asked(row, "needs") == self.rows[max(place - 1, 0) : place]
            and not self._asked(row, "compensates")
            for place, row in enumerate(self.rows)
        )

    def _chain(self) -> None:
        for place, row in enumerate(self.rows):
            self.data.setlist(f"{row}-needs", self.rows[max(place - 1, 0) : place])

    def _add(self, name: str) -> None:
        row = f"r{max((int(each[1:]) for each in self.rows), default=0) + 1}"
        before = [each for each in self.rows if not self._asked(each, "compensates")]
        self.rows.append(row)
        self.data[f"{row}-key"] = self._free_key(name)
        self.data[f"{row}-on_failure"] = "stop"
        self.data.setlist(f"{row}-needs", before[-1:])
        _set_type(self.data, row, name if known(name) else "WorkOrder", {})

    def _remove(self, row: str) -> None:
        """What came after it comes after what it came after."""
        inherited = self._asked(row, "needs")
        for other in self.rows:
            needs = self._asked(other, "needs")
            if row in needs:
                left = [each for each in needs if each != row]
                added = [each for each in inherited if each not in left and each != other]
                self.data.setlist(f"{other}-needs", [*left, *added])
        self.rows.remove(row)

    def _change_type(self, row: str) -> None:
        old, new = self.data.get(f"{row}-of", ""), self.data.get(f"{row}-step", "")
        key = self.data.get(f"{row}-key", "")
        if key == old or key.startswith(f"{old}-"):
            self.data[f"{row}-key"] = self._free_key(new)
        self.data.setlist(f"{row}-settable", [])
        _set_type(self.data, row, new, {})

    def _free_key(self, name: str) -> str:
        taken = {self.data.get(f"{row}-key", "") for row in self.rows}
        number, key = 1, name
        while key in taken:
            number += 1
            key = f"{name}-{number}"
        return key

    # --- content ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.data.get("name", "").strip()

    @property
    def raw(self) -> dict[str, Any]:
        head = self.head.cleaned_data
        return {
            "title": head.get("title", ""),
            "description": head.get("description", ""),
            "replaces": bool(head.get("replaces")),
            "steps": [form.raw(self.keys) for form in self.steps],
        }

    def read(self) -> contents.Content:
        """``InvalidInput`` when anything is wrong; each mistake is at its field then."""
        wrong = any(form.errors for form in (self.head, *self.steps))
        try:
            content = contents.read(self.raw)
            saving.check(content, self.name)
        except InvalidInput as error:
            self.place(error)
            raise
        if wrong:
            raise contents.refusal({"": _("Please correct what is marked below.")})
        return content

    def place(self, error: InvalidInput) -> None:
        for path, sentence in (error.fields or {"": error.message}).items():
            form, name = self._field(path)
            if form is None:
                self.problems[path] = sentence
            elif name not in form.errors:
                form.add_error(name, sentence)

    def _field(self, path: str) -> tuple[forms.Form | None, str]:
        if path in self.head.fields:
            return self.head, path
        step, _dot, rest = path.partition(".")
        number = step.removeprefix("steps[").removesuffix("]")
        if not number.isdecimal() or int(number) >= len(self.steps):
            return None, ""
        form = self.steps[int(number)]
        name, _dot, inner = rest.partition(".")
        if name == "params":
            name = "p_" + inner.split(".")[0].split("[")[0]
        return form, name if name in form.fields else "step"

    def hide_errors(self) -> None:
        """Nobody has asked yet whether it is right."""
        for form in (self.head, *self.steps):
            form._errors = ErrorDict()  # type: ignore[attr-defined]

    @property
    def short(self) -> dict[str, Any]:
        """As it would be kept: what was left as it is by default is left out."""
        raw = self.raw
        steps = [
            {
                name: value
                for name, value in step.items()
                if value not in _EMPTY and (name, value) != ("on_failure", "stop")
            }
            for step in raw["steps"]
        ]
        kept = {name: value for name, value in raw.items() if value not in (*_EMPTY, False)}
        return {**kept, "steps": steps}


def known_kind(name: str) -> str:
    named = known(name)
    return named.kind if named else ""


def cards(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The picture: where each step stands, and what it says; also of what is not right yet."""
    rows = [
        TaskStep(
            key=step.get("key", ""),
            name=step.get("step", ""),
            kind=known_kind(step.get("step", "")),
            params=step.get("params") or {},
            needs=list(step.get("needs", [])),
            compensates=list(step.get("compensates", [])),
            on_failure=step.get("on_failure", "stop"),
        )
        for step in raw.get("steps", [])
    ]
    columns = graph.levels(rows)
    used: dict[int, int] = {}
    found = []
    for row in rows:
        column = columns[row.key] + 1
        used[column] = used.get(column, 0) + 1
        named = known(row.name)
        found.append(
            {
                "key": row.key,
                "name": row.name,
                "title": catalog.title_of(row) if named else row.name,
                "icon": _icon(named),
                "column": column,
                "row": used[column],
                "before": " ".join((*row.needs, *row.compensates)),
                "is_compensation": bool(row.compensates),
                "on_failure": ""
                if row.on_failure == TaskStep.OnFailure.STOP
                else row.get_on_failure_display(),
            }
        )
    return found


_ICONS = {
    "workOrder": "how_to_reg",
    "wait": "timer",
    "notify": "campaign",
    "gate": "traffic",
    "operation": "play_circle",
    "task": "account_tree",
}


def _icon(named: catalog.Named | None) -> str:
    return _ICONS.get(named.kind, "radio_button_unchecked") if named else "help"


def param_form(content: contents.Content, data: Any = None) -> forms.Form:
    """The fields that the template lets be chosen when a task begins."""
    form = forms.Form(data, prefix="free")
    for step in content.steps:
        named = known(step.step)
        if named is None or not step.settable:
            continue
        schema = step_types.schema_of(named)
        made = schema_fields(schema)
        for name in step.settable:
            if name not in made:
                continue
            field = made[name]
            field.label = _("%(step)s: %(what)s") % {
                "step": named.title,
                "what": field.label or name,
            }
            if name in step.params:
                field.initial = step.params[name]
            form.fields[f"{step.key}:{name}"] = field
    return form


def given(form: forms.Form) -> dict[str, dict[str, Any]]:
    """The parameters by the key of their step; what was left empty is left out."""
    found: dict[str, dict[str, Any]] = {}
    for place, value in form.cleaned_data.items():
        key, _colon, name = place.partition(":")
        if value not in _EMPTY:
            found.setdefault(key, {})[name] = value
    return found
