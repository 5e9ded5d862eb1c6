"""New templates and new versions of them.

A version is written once.  Whoever saves says on which version theirs is based: where somebody else
was faster, they are told and nothing of either is lost.
"""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import Conflict, Forbidden
from beidou.base.models import User
from operations.flows import catalog, nesting
from operations.flows.library import content as contents
from operations.flows.library import steps as step_types
from operations.flows.library.models import TaskTemplate, TemplateVersion

RIGHT = "operations.add_tasktemplate"
RESERVED = frozenset({"new", "steps", "validate"})  # parts of addresses
COMMENT_MAX = 500


class ChangedMeanwhile(Conflict):
    """``newest`` is the version that somebody else has saved."""

    def __init__(self, message: str, newest: TemplateVersion) -> None:
        super().__init__(message, code="changed_meanwhile")
        self.newest = newest


def may_write(user: Any) -> bool:
    return bool(user.is_active and user.has_perm(RIGHT))


def require_writer(user: Any) -> None:
    if not may_write(user):
        raise Forbidden(
            _(
                "Writing templates is a right of teams: “May add: templates of one-click tasks”; "
                "administrators give it on the team's page."
            )
        )


def name_problem(name: str) -> str:
    """Why a new template cannot be called so; empty when it can."""
    row = TaskTemplate(name=name, title="x")
    try:
        row.clean_fields()
    except ValidationError:
        return _("A name has 1 to 40 letters, digits and inner hyphens.")
    taken = {each.lower() for each in (*catalog.TEMPLATES, *RESERVED)}
    taken |= {each.name.lower() for each in step_types.names()}
    if name.lower() in taken:
        return _("“%(name)s” means something else already.") % {"name": name}
    if TaskTemplate.objects.filter(name__iexact=name).exists():
        return _("There is a template “%(name)s” already.") % {"name": name}
    return ""


def check(content: contents.Content, name: str = "") -> None:
    """What only shows with other templates in sight; ``contents.read`` has said the rest."""
    if found := nesting.problems(content, name):
        raise contents.refusal(found)


def create(
    *, name: str, content: contents.Content, acting_user: User, comment: str = ""
) -> TaskTemplate:
    require_writer(acting_user)
    comment = _short(comment)
    if sentence := name_problem(name):
        raise contents.refusal({"name": sentence}, code="invalid_name")
    check(content, name)
    try:
        with audit.entries_last():
            row = TaskTemplate.objects.create(name=name, **_head(content, acting_user))
            _write(row, content, acting_user, comment)
            audit.record("add", row, after=_about(row, content), reason=comment)
    except IntegrityError as error:
        sentence = _("There is a template “%(name)s” already.") % {"name": name}
        raise contents.refusal({"name": sentence}, code="invalid_name") from error
    return row


def save_version(
    template: TaskTemplate,
    *,
    content: contents.Content,
    base: int,
    acting_user: User,
    comment: str = "",
) -> TemplateVersion:
    """``ChangedMeanwhile`` when ``base`` is no longer the newest; ``Conflict`` when the content is
    what the newest holds already."""
    require_writer(acting_user)
    comment = _short(comment)
    check(content, template.name)
    with audit.entries_last():
        row = TaskTemplate.objects.select_for_update().get(pk=template.pk)
        newest = row.versions.get(number=row.version)
        if base != row.version:
            raise ChangedMeanwhile(
                _("%(who)s saved version %(number)s while you wrote; it is not in yours.")
                % {"who": newest.saved_by_name, "number": newest.number},
                newest,
            )
        if contents.stored(content) == newest.content:
            raise Conflict(
                _("Nothing differs from version %(number)s.") % {"number": newest.number},
                code="unchanged",
            )
        row.version += 1
        for name, value in _head(content, acting_user).items():
            setattr(row, name, value)
        row.save()
        version = _write(row, content, acting_user, comment)
        audit.record(
            "save version",
            row,
            before={"version": newest.number},
            after=_about(row, content),
            reason=comment,
        )
    return version


def _short(comment: str) -> str:
    if len(comment) > COMMENT_MAX:
        sentence = _("At most %(count)s characters.") % {"count": COMMENT_MAX}
        raise contents.refusal({"comment": sentence}, code="too_long")
    return comment


def _head(content: contents.Content, user: User) -> dict[str, Any]:
    return {
        "title": content.title,
        "description": content.description,
        "saved_at": timezone.now(),
        "saved_by_name": user.get_username(),
    }


def _write(
    row: TaskTemplate, content: contents.Content, user: User, comment: str
) -> TemplateVersion:
    return TemplateVersion.objects.create(
        template=row,
        number=row.version,
        content=contents.stored(content),
        comment=comment,
        saved_at=row.saved_at,
        saved_by_name=user.get_username(),
    )


def _about(row: TaskTemplate, content: contents.Content) -> dict[str, Any]:
    return {"version": row.version, **contents.stored(content)}


def offer(template: TaskTemplate, *, is_offered: bool, acting_user: User, reason: str = "") -> None:
    """Let tasks begin with it, or no more; those that have begun go on."""
    require_writer(acting_user)
    with audit.entries_last():
        row = TaskTemplate.objects.select_for_update().get(pk=template.pk)
        if row.is_offered == is_offered:
            raise Conflict(
                _("It is offered already.") if is_offered else _("It was withdrawn before."),
                code="unchanged",
            )
        row.is_offered = is_offered
        row.save(update_fields=["is_offered"])
        audit.record("offer template" if is_offered else "withdraw template", row, reason=reason)
