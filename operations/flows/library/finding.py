"""A template by its name: ready-made, or of the site in one of its versions."""

from collections.abc import Mapping
from typing import Any

from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from beidou.base.errors import InvalidInput
from operations.flows import catalog, graph
from operations.flows.catalog import Template
from operations.flows.library import content as contents
from operations.flows.library import steps as step_types
from operations.flows.library.models import TaskTemplate, TemplateVersion

ICON = "account_tree"
_NEWEST = gettext_lazy("Ready-made templates have one version, that of the portal.")


def template(name: str, version: int | None = None) -> Template:
    """The newest version unless one is named; ``InvalidInput`` when there is none to begin."""
    if name in catalog.TEMPLATES:
        found = ready_made(name, version)
        if found.makes_cluster:
            raise InvalidInput(
                makes_cluster(), code="makes_cluster", fields={"template": makes_cluster()}
            )
        return found
    row = TaskTemplate.objects.filter(name=name).first()
    if row is None:
        return catalog.template(name, others=offered_names())
    if not row.is_offered:
        sentence = _("The template “%(name)s” was withdrawn.") % {"name": name}
        raise InvalidInput(sentence, code="withdrawn", fields={"template": sentence})
    return of(version_of(row, version))


def ready_made(name: str, version: int | None = None) -> Template:
    found = catalog.TEMPLATES[name]
    if version not in (None, found.version):
        sentence = str(_NEWEST)
        raise InvalidInput(sentence, code="unknown_version", fields={"template_version": sentence})
    return found


def makes_cluster() -> str:
    return _("It begins together with its cluster: on the page “Create a cluster”, or by its API.")


def version_of(row: TaskTemplate, number: int | None = None) -> TemplateVersion:
    wanted = row.version if number is None else number
    # No more than a column holds.
    rows = row.versions.filter(number=wanted) if wanted < 1 << 31 else row.versions.none()
    found = rows.first()
    if found is None:
        sentence = _("The template “%(name)s” has no version %(number)s.") % {
            "name": row.name,
            "number": wanted,
        }
        raise InvalidInput(sentence, code="unknown_version", fields={"template_version": sentence})
    found.template = row
    return found


def of(version: TemplateVersion) -> Template:
    """A version as what tasks are begun with; ``InvalidInput`` when it means nothing any more (it
    was written with another version of the portal, say)."""
    name = version.template.name
    try:
        found = contents.read(version.content)
    except InvalidInput as error:
        sentence = _(
            "Version %(number)s of the template “%(name)s” cannot be begun: %(why)s Save a "
            "version that is mended."
        ) % {"number": version.number, "name": name, "why": error.message}
        raise InvalidInput(sentence, code="unusable", fields={"template": sentence}) from error
    like = catalog.TEMPLATES[contents.REPLACEMENT]
    return Template(
        name=name,
        version=version.number,
        title=found.title,
        description=found.description,
        operation_id=name,
        steps=tuple(step.step for step in found.steps),
        icon=ICON,
        groups=like.groups if found.replaces else {},
        behind=like.behind if found.replaces else {},
        begins_with=like.begins_with if found.replaces else _begins_with(found),
        content=found,
    )


def _begins_with(content: contents.Content, seen: set[tuple[str, int]] | None = None) -> str:
    """The first kind of operation, also in a task below; ``seen`` are those that hold none."""
    seen = set() if seen is None else seen
    for step in content.steps:
        kind = step_types.kind_of(catalog.named(step.step))
        if kind is not None:
            return kind.name
        name = str(step.params.get("template", "")) if step.step == "Task" else ""
        if name in catalog.TEMPLATES:
            return catalog.TEMPLATES[name].begins_with or name
        number = step.params.get("version", 0)
        number = number if isinstance(number, int) else 0  # asked when a task begins
        if not name or (name, number) in seen:
            continue
        seen.add((name, number))
        row = TaskTemplate.objects.filter(name=name).first()
        try:
            inner = contents.parse(version_of(row, number or None).content) if row else None
        except InvalidInput:
            continue
        if inner is not None and (found := _begins_with(inner, seen)):
            return found
    return ""


def offered_names() -> list[str]:
    return list(TaskTemplate.objects.filter(is_offered=True).values_list("name", flat=True))


def offered() -> list[Template]:
    """What tasks on a cluster can begin with: ready-made ones, then those of the site that can be
    begun."""
    rows = TemplateVersion.objects.filter(
        template__is_offered=True, number=F("template__version")
    ).select_related("template")
    found = [each for each in catalog.TEMPLATES.values() if not each.makes_cluster]
    for row in rows.order_by("template__name"):
        try:
            found.append(of(row))
        except InvalidInput:
            continue  # its page says why
    return found


def raw_of(chosen: Template) -> dict[str, Any]:
    """The content of a template; of a ready-made one as a copy of it would begin."""
    if chosen.content is not None:
        return contents.stored(chosen.content)
    specs = graph.in_order(catalog.spec(name) for name in chosen.steps)
    made: Mapping[str, Any] = {
        "title": str(chosen.title),
        "description": str(chosen.description),
        "replaces": bool(chosen.groups),
        "steps": [
            {"key": spec.key, "step": spec.name, "needs": list(spec.needs)} for spec in specs
        ],
    }
    return contents.stored(contents.Content.model_validate(made))


def specs_of(chosen: Template, given: Mapping[str, Any]) -> list[graph.Spec]:
    """The steps of a task that begins with a template of the site."""
    return contents.specs(chosen.content, given)
