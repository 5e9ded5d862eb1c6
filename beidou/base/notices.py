"""The outbox of news: whoever changes what people may want to be told of writes a ``Notice``.

It is one row in the transaction of the change itself: what is rolled back is not told, and what is
committed is told even if this process dies now.  Who is told, and how, is decided later and
elsewhere (``notifications``).  Publishing costs one INSERT and never spoils the change: what goes
wrong with it is logged.

Every app registers the kinds of its news from ``AppConfig.ready``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, models, transaction
from django.utils import timezone
from django.utils.functional import Promise

from beidou.base.models import Notice
from beidou.base.sentences import Sentence

logger = structlog.get_logger(__name__)

Severity = Notice.Severity


@dataclass(frozen=True)
class Kind:
    """What rules choose by; ``name`` is stored, ``label`` is what a person reads."""

    name: str
    label: str | Promise


KINDS: dict[str, Kind] = {}


def register(*kinds: Kind) -> None:
    KINDS.update({kind.name: kind for kind in kinds})


def label_of(name: str) -> str:
    """The word for a kind; one of an app that is gone keeps its name."""
    return str(KINDS[name].label) if name in KINDS else name


@dataclass(frozen=True)
class News:
    """One thing to tell.

    ``cluster_id``: who may see that cluster may be told.  ``team_id`` counts where there is none.
    Without both it is for administrators.  ``about``: the object to look at.  ``key``: of several
    with the same key the first alone is told, for as long as it is kept.

    ``receiver``: told to the one of that name alone, whatever the rules say, if it may hear of it.
    ``is_followed``: ``fate_of`` can say what became of it, and it is told apart from what nobody
    waits for.
    """

    kind: str
    severity: str
    title: str
    details: str = ""
    cluster_id: int | None = None
    team_id: int | None = None
    about: models.Model | None = None
    key: str | None = None
    receiver: str = ""
    is_followed: bool = False


@dataclass(frozen=True)
class Fate:
    """What became of a notice: who was told, and whether nobody will be any more, and why."""

    arrived: tuple[str, ...] = ()
    is_over: bool = False
    why: str = ""


_fates: list[Callable[[str], Fate]] = []
_receivers: list[Callable[[str, int], bool]] = []


def register_teller(fate: Callable[[str], Fate], may_be_told: Callable[[str, int], bool]) -> None:
    """For the app that tells people."""
    _fates[:], _receivers[:] = [fate], [may_be_told]


def fate_of(key: str) -> Fate:
    """Of the notice with this key."""
    if not _fates:
        return Fate(is_over=True, why=Sentence("This portal tells nobody of anything."))
    return _fates[0](key)


def may_be_told(receiver: str, cluster_id: int) -> bool:
    """Whether there is a receiver of this name that may hear of the cluster."""
    return any(known(receiver, cluster_id) for known in _receivers)


def publish(*news: News) -> None:
    """Tell these; inside the transaction of the change, and before its audit entry."""
    publish_all(news)


def publish_all(news: Iterable[News]) -> None:
    try:
        rows = [_row(each) for each in news]
        if rows:
            # A savepoint: PostgreSQL gives a transaction up after an error in it.
            with transaction.atomic():
                Notice.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
    except (DatabaseError, TypeError, ValueError, OverflowError):
        logger.exception("notice_not_published")


def known(keys: Iterable[str]) -> set[str]:
    """Those of ``keys`` that were told already: asked before many are published again."""
    found = Notice.objects.filter(key__in=list(keys)).values_list("key", flat=True)
    return {key for key in found if key is not None}


def _row(news: News) -> Notice:
    if news.kind not in KINDS:
        logger.warning("notice_of_unknown_kind", kind=news.kind)
    about = news.about
    return Notice(
        at=timezone.now(),
        kind=news.kind[:40],
        severity=news.severity,
        title=news.title,
        details=news.details,
        cluster_id=news.cluster_id,
        team_id=news.team_id,
        object_type=about._meta.label_lower if about is not None else "",
        object_id=str(about.pk or "") if about is not None else "",
        key=news.key[:160] if news.key else None,
        receiver=news.receiver,
        is_followed=news.is_followed,
    )
