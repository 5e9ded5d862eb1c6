"""What an operation is asked for, and how that is completed: revision, defaults, marks of
secrets."""

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from beidou.base import context, permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import User
from clusters.models import Cluster
from operations.models import Operation, PlaybookRun, SourceRevision
from operations.playbooks import library, values


class RunPlaybookParams(BaseModel):
    """``playbook`` is SOURCE/NAME.  ``revision`` and ``content`` (its digest) are those that are
    released, and are refused when they are not any more; empty: whatever is.  ``confirm``: the
    cluster's name, for playbooks that are declared destructive."""

    model_config = ConfigDict(extra="forbid")

    playbook: str = Field(max_length=130, pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")
    revision: str = Field(default="", max_length=80)
    content: str = Field(default="", max_length=80)
    variables: dict[str, Any] = Field(default_factory=dict, max_length=100)
    confirm: str = Field(default="", max_length=63)

    _secrets: dict[str, str] = PrivateAttr(default_factory=dict)


def settle(cluster: Cluster, params: RunPlaybookParams, user: User) -> None:
    """Pin the released revision, complete and check the variables; secrets are put apart."""
    row = library.find(params.playbook, library.offered(user))
    if row is None or row.source.released is None:
        sentence = _("There is no playbook “%(name)s” that you may run.") % {
            "name": params.playbook
        }
        fields = {"params.playbook": sentence}
        raise InvalidInput(sentence, code="unknown_playbook", fields=fields)
    declared, released = row.declared, row.source.released
    permissions.require(user, cluster, declared.permission)
    if (params.revision or released.revision) != released.revision or (
        params.content or released.digest
    ) != released.digest:
        raise Conflict(
            _("Another revision of %(playbook)s was released meanwhile: %(revision)s.")
            % {"playbook": params.playbook, "revision": released.revision},
            code="other_revision",
        )
    given = values.check(declared.parameters, params.variables, owner=params.playbook)
    if declared.destructive and params.confirm != cluster.name:
        sentence = _("Type the name of the cluster: this playbook destroys something.")
        fields = {"params.confirm": sentence}
        raise InvalidInput(sentence, code="not_confirmed", fields=fields)
    params.revision, params.content = released.revision, released.digest
    params.variables, params._secrets = given.shown, given.secrets


def secrets(params: RunPlaybookParams) -> list[str]:
    return [f"variables.{name}" for name in params._secrets]


def keep(operation: Operation, params: RunPlaybookParams) -> None:
    """The content stays as long as the operation, whatever becomes of its source."""
    source, _slash, name = params.playbook.partition("/")
    rows = SourceRevision.objects.filter(
        source__name=source, revision=params.revision, digest=params.content
    )
    revision = rows.defer("archive").first()
    declared = library.declared(params.playbook, params.content)
    if revision is None or declared is None:
        raise Conflict(_("This revision of the playbook was removed just now."), code="gone")
    PlaybookRun.objects.create(
        operation=operation,
        revision=revision,
        declaration=declared.model_dump(mode="json", exclude_unset=True),
        secrets=json.dumps(params._secrets) if params._secrets else "",
    )


def is_same(stored: Mapping[str, Any], asked: RunPlaybookParams) -> bool:
    """Whether ``asked`` means what was begun; a mark stands for the secret that made it."""
    declared = library.declared_if_readable(stored["playbook"], stored["content"])
    if declared is None or asked.playbook != stored["playbook"]:
        return False
    for name in ("revision", "content"):
        if getattr(asked, name) not in ("", stored[name]):
            return False
    given = values.check(
        declared.parameters, asked.variables, owner=asked.playbook, marks_are_kept=True
    )
    confirmed = not declared.destructive or asked.confirm == stored["confirm"]
    return confirmed and bool(given.shown == stored["variables"])


def require(operation: Operation, user: User) -> None:
    """``Forbidden`` for whoever could not have begun it themselves."""
    run = library.run_of(operation)
    if run is None:
        return
    permissions.require(user, operation.cluster, run.declared.permission)
    teams = set(run.revision.source.teams.values_list("pk", flat=True))
    mine = set(user.groups.values_list("pk", flat=True))
    if teams and not user.is_superuser and not teams & mine:
        context.note_refusal(operation)
        raise Forbidden(_("The playbooks of %(source)s are for other teams.")
                        % {"source": run.revision.source})  # fmt: skip


def changes(params: Mapping[str, Any]) -> bool:
    declared = library.declared_if_readable(params.get("playbook", ""), params.get("content", ""))
    return declared is None or declared.changes_machines


def repeats(operation: Operation) -> bool:
    run = library.run_of(operation)
    return run is not None and run.declared.idempotent
