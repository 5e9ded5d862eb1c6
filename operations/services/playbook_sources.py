"""Sources of playbooks: checked when saved, read by a worker, released by a person.

1. ``ask`` has a worker read the source; what it finds becomes a ``SourceRevision``.
2. A person looks at it: what it declares, what is new, what deserves a second look.
3. ``release`` offers its playbooks.  It names the digest that was looked at: what was not seen is
   not released.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from pydantic import ValidationError

from beidou.base import audit
from beidou.base.addresses import is_other_host
from beidou.base.errors import BeidouError, Conflict, Forbidden, InvalidInput, PermanentError
from beidou.base.models import User
from beidou.base.sentences import Sentence
from beidou.base.tasks import enqueue_on_commit
from operations.drivers import git, trees
from operations.drivers.git import Repository
from operations.drivers.trees import Entry, Tree
from operations.kinds import base as kinds
from operations.playbooks import declaration, review, values
from operations.playbooks.declaration import Declaration
from operations.playbooks.models import PlaybookRun, PlaybookSource, SitePlaybook, SourceRevision
from operations.services import wording

logger = structlog.get_logger(__name__)

SECRETS: Final = ("secret",)
KEPT: Final = 10
"""Revisions of a source that are neither released nor run by an operation."""
_OF_GIT: Final = ("ref", "user", "secret", "host_keys")


def require_manager(user: User) -> None:
    """``Forbidden`` unless they may decide what runs on hosts."""
    if not user.is_superuser:
        raise Forbidden(
            _("Sources of playbooks are kept by administrators: a playbook is code on hosts.")
        )


# --- writing ---------------------------------------------------------------------------------


def validate(source: PlaybookSource, *, stored: PlaybookSource | None = None) -> None:
    """``InvalidInput`` naming the fields; what the kind has no use for is emptied."""
    if source.kind == PlaybookSource.Kind.FOLDER:
        for name in _OF_GIT:
            setattr(source, name, "")
        if not source.location.startswith("/"):
            raise _wrong("location", _("Give a folder that begins with /."))
        trees.check_place(Path(source.location), settings.PLAYBOOK_FOLDERS)
        _check_subfolder(source.subfolder)
        return
    source.ref = source.ref or "HEAD"
    if (
        stored is not None
        and stored.secret
        and stored.secret == source.secret
        and is_other_host(stored.location, source.location)
    ):
        # Else the secret could be sent to a host that it was not given for.
        raise _wrong("secret", _("Give the secret anew with the address of another host."))
    git.check(_repository(source), folders=settings.PLAYBOOK_FOLDERS)


def _check_subfolder(text: str) -> None:
    if text and any(part in ("", ".", "..") for part in text.split("/")):
        raise _wrong("subfolder", _("Give a folder below it, like ops/playbooks."))


def _wrong(name: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, code="bad_source", fields={name: sentence})


def _repository(source: PlaybookSource) -> Repository:
    return Repository(
        url=source.location, ref=source.ref, subfolder=source.subfolder, user=source.user,
        secret=source.secret, host_keys=source.host_keys,
    )  # fmt: skip


def apply_secrets(source: PlaybookSource, given: Mapping[str, str]) -> None:
    """Set the secret that was given; an empty one keeps what is stored."""
    for name in SECRETS:
        if given.get(name):
            setattr(source, name, given[name])


def refuse_deletion(sources: models.QuerySet[PlaybookSource]) -> None:
    """``Conflict`` while operations hold content of theirs."""
    held = PlaybookRun.objects.filter(revision__source__in=sources).select_related(
        "revision__source"
    )
    if (run := held.defer("revision__archive", "revision__source__secret").first()) is not None:
        raise Conflict(
            _(
                "Operations have run playbooks of %(source)s and keep their content; switch the "
                "source off instead."
            )
            % {"source": run.revision.source},
            code="in_use",
        )


# --- reading ---------------------------------------------------------------------------------


def ask(source: PlaybookSource, *, acting_user: User) -> None:
    """Have it read soon, by a worker."""
    require_manager(acting_user)
    with audit.entries_last():
        source.asked_at = timezone.now()
        PlaybookSource.objects.filter(pk=source.pk).update(asked_at=source.asked_at, problem="")
        audit.record("read playbooks", source)
        enqueue_on_commit("operations.tasks.read_playbooks", source.pk, group="operations")


def read(source_id: int) -> SourceRevision | None:
    """The task: what the source holds now, as a revision; what keeps it from being read is kept
    with the source.

    A boundary of the process: our own mistake is told as one.
    """
    source = PlaybookSource.objects.filter(pk=source_id).first()
    if source is None:
        return None
    problem, revision = "", None
    try:
        revision = _keep(source, _fetch(source))
    except BeidouError as error:
        problem = error.message
    except Exception as error:
        logger.exception("playbooks_not_read", source=source_id)
        problem = kinds.mistake(error)
    PlaybookSource.objects.filter(pk=source_id).update(read_at=timezone.now(), problem=problem)
    return revision


def _fetch(source: PlaybookSource) -> Tree:
    size_max = settings.PLAYBOOK_MAX_BYTES
    if source.kind == PlaybookSource.Kind.GIT:
        repository = _repository(source)
        return git.read(repository, folders=settings.PLAYBOOK_FOLDERS, size_max=size_max)
    root = Path(source.location) / source.subfolder
    return trees.read_folder(root, folders=settings.PLAYBOOK_FOLDERS, size_max=size_max)


def _keep(source: PlaybookSource, tree: Tree) -> SourceRevision:
    declared = declared_by(tree.entries)
    with audit.entries_last():
        revision, is_new = SourceRevision.objects.get_or_create(
            source=source,
            revision=tree.revision,
            digest=tree.digest,
            defaults={
                "archive": trees.pack(tree.entries),
                "files": len(tree.entries),
                "size": tree.size,
                "declaration": declared.model_dump(mode="json", exclude_unset=True),
                "remarks": [*review.remarks_on(declared), *review.remarks(tree)],
            },
        )
        if not is_new:
            SourceRevision.objects.filter(pk=revision.pk).update(read_at=timezone.now())
        _forget_old(source, revision)
    return revision


def _forget_old(source: PlaybookSource, newest: SourceRevision) -> None:
    """But for the newest one, and for that which is released by now."""
    released = PlaybookSource.objects.filter(pk=source.pk).values("released")
    needed = Q(pk=newest.pk) | Q(pk__in=released)
    unused = source.revisions.filter(runs=None).exclude(needed)
    keys = list(unused.order_by("-read_at", "-pk").values_list("pk", flat=True)[KEPT:])
    SourceRevision.objects.filter(pk__in=keys).delete()


def declared_by(entries: tuple[Entry, ...]) -> Declaration:
    """What ``beidou.yaml`` says; ``InvalidInput`` names the place of the first mistake."""
    files = {entry.path: entry for entry in entries}
    file = files.get(declaration.FILE)
    if file is None:
        raise PermanentError(
            Sentence(
                "There is no file %(file)s in it, which says what playbooks there are.",
                file=declaration.FILE,
            ),
            code="no_declaration",
        )
    try:
        found = Declaration.model_validate(declaration.load(file.content))
    except ValidationError as error:
        place, what = next(iter(wording.told(error)))
        raise _mistake(".".join(str(part) for part in place) or declaration.FILE, what) from error
    for index, each in enumerate(found.playbooks):
        for name in filter(None, (each.playbook, each.verify)):
            if name not in files or files[name].kind == trees.LINK:
                raise _mistake(
                    f"playbooks.{index}", Sentence("there is no file %(path)s", path=name)
                )
        if wrong := values.wrong_default(each.parameters):
            raise _mistake(
                f"playbooks.{index}.parameters.properties.{wrong}.default",
                Sentence("is not what the parameter itself allows"),
            )
    return found


def _mistake(place: str, what: str) -> InvalidInput:
    return InvalidInput(
        Sentence("%(file)s, %(place)s: %(what)s.", file=declaration.FILE, place=place, what=what),
        code="bad_declaration",
    )


# --- releasing -------------------------------------------------------------------------------


def changes(revision: SourceRevision) -> list[review.Change]:
    """Since the released revision; of the released one itself since nothing."""
    released = revision.source.released
    old: tuple[Entry, ...] = ()
    if released is not None and released.pk != revision.pk:
        old = trees.unpack(bytes(released.archive))
    return review.changes(old, trees.unpack(bytes(revision.archive)))


def release(
    revision: SourceRevision, *, digest: str, acting_user: User, reason: str = ""
) -> SourceRevision:
    """Offer what the revision declares; ``digest`` is that of the content that was looked at."""
    require_manager(acting_user)
    if digest != revision.digest:
        raise Conflict(
            _("This is not the content that you looked at; look at it once more."), code="not_seen"
        )
    with audit.entries_last():
        source = (
            PlaybookSource.objects.select_for_update(of=("self",))
            .select_related("released")
            .defer("released__archive")
            .get(pk=revision.source_id)
        )
        before = source.released
        now = timezone.now()
        found = SourceRevision.objects.filter(pk=revision.pk).update(
            released_at=now, released_by=acting_user.get_username()
        )
        if not found:
            raise Conflict(_("This revision was removed just now; read the source again."))
        PlaybookSource.objects.filter(pk=source.pk).update(released=revision)
        names = []
        for each in revision.declared.playbooks:
            names.append(each.name)
            SitePlaybook.objects.update_or_create(
                source=source,
                name=each.name,
                defaults={
                    "title": each.title,
                    "description": each.description,
                    "declaration": each.model_dump(mode="json", exclude_unset=True),
                    "is_offered": True,
                },
            )
        SitePlaybook.objects.filter(source=source).exclude(name__in=names).update(is_offered=False)
        audit.record(
            "release playbooks",
            source,
            before={"revision": before.revision if before else ""},
            after={
                "revision": revision.revision,
                "digest": revision.digest,
                "playbooks": names,
            },
            reason=reason,
        )
    revision.refresh_from_db(fields=["released_at", "released_by"])
    return revision


def withdraw(source: PlaybookSource, *, acting_user: User, reason: str = "") -> None:
    """Offer nothing of it any more; operations that were begun keep what they have."""
    require_manager(acting_user)
    with audit.entries_last():
        PlaybookSource.objects.filter(pk=source.pk).update(released=None)
        SitePlaybook.objects.filter(source=source).update(is_offered=False)
        audit.record("withdraw playbooks", source, reason=reason)
