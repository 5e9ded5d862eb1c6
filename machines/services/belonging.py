"""Whom a machine may be given to, and with which credential, by whom: one rule for all edges."""

from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.utils.translation import gettext as _

from beidou.base import permissions
from beidou.base.errors import Forbidden, InvalidInput
from machines.models import SshCredential


def credentials_of(user: Any) -> models.QuerySet[SshCredential]:
    """The credentials a person may sign in with: those of their teams.

    Seeing a credential is not enough: an auditor sees all of them and may do nothing with any.
    """
    if user.is_superuser:
        return SshCredential.objects.all()
    return SshCredential.objects.filter(team__in=user.groups.all())


def may_use(user: Any, credential: SshCredential) -> bool:
    return credentials_of(user).filter(pk=credential.pk).exists()


def require_use(user: Any, credential: SshCredential) -> None:
    """Raise ``Forbidden`` unless ``user`` may sign in with ``credential``."""
    if not may_use(user, credential):
        raise Forbidden(
            _("You may not use the credential %(name)s: it belongs to none of your teams.")
            % {"name": credential}
        )


def new_address_problem(user: Any, credential: SshCredential | None) -> str | None:
    """Why ``user`` may not lead ``credential`` to another address, as a sentence.

    Whoever could, without being allowed to use it, would have it sent to a host of their own.
    """
    if credential is None or may_use(user, credential):
        return None
    return _(
        "The portal would sign in there with the credential %(name)s, which belongs to none of "
        "your teams; choose one of yours, or none, together with the address."
    ) % {"name": credential}


def default_team(user: Any) -> Group | None:
    """The owner of what a person adds without naming a team: their only team."""
    teams = list(user.groups.all()[:2])
    return teams[0] if len(teams) == 1 else None


def check(
    user: Any, *, owner_team: Group | None, credential: SshCredential | None, is_new: bool = False
) -> None:
    """Raise ``InvalidInput`` naming the field when ``user`` may not give a machine these.

    A machine that somebody adds without being an administrator needs one of their teams as owner:
    they could not see it otherwise.
    """
    fields: dict[str, str] = {}
    if owner_team is None:
        if is_new and not user.is_superuser:
            fields["owner_team"] = _("Choose one of your teams as the owner.")
    elif not permissions.teams_of(user).filter(pk=owner_team.pk).exists():
        fields["owner_team"] = _("You are not in the team %(team)s.") % {"team": owner_team}
    if credential is not None and not may_use(user, credential):
        fields["credential"] = _("There is no such credential that you may use.")
    if fields:
        raise InvalidInput(" ".join(fields.values()), fields=fields)
