"""The live tail of a search: events are told as they are stored.

A store gives what was last seen, newest first, and nothing else; events are stored seconds late
and out of order, and a repeated one moves.  So the last minute is looked at again and again, and
each state of an event is told once.  One look serves all who follow the same search in the same
clusters, and at most ``LOOKS_AT_ONCE`` are under way in a process.

The id of a message is a place in what this reader told, and the moment of the look: who comes back
gets what it has missed, from the reader's memory while that reaches (nothing twice), and otherwise
from the store by the moment (the last minute before it again).
"""

import asyncio
import contextlib
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from beidou.base import streaming, watching
from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from beidou.base.streaming import message
from events.drivers.kube_events import MOST_AHEAD
from events.services import asked, search
from events.services.search import DEFAULT_SPAN, FoundEvent, Page, Query, Scope, StoreAway

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
SOONEST_SECONDS = 0.25
"""Who joins is served by a look of its own, but never are there more than this often."""
AWAY_SECONDS_MAX = 30.0
LOOKS_AT_ONCE = 4
LATE = timedelta(seconds=60)
"""How much later than the newest an event may be stored and still be told."""
LATE_WHEN_QUIET = timedelta(minutes=10)
READ_MAX = 1000
TOLD_MAX = 200
KNOWN_MAX = 4 * READ_MAX
REMEMBERED_MAX = 2 * TOLD_MAX
"""Rows for those that come back."""
SEARCHES_MAX = 100
SEARCHES_OF_ONE_MAX = 10
"""Of one person; the others are for others."""
QUEUE_MESSAGES = 30
AT_SECONDS = 30.0
"""In silence the place is told so often, so that who comes back is not told old things."""
FULL_RETRY = "retry: 30000\n\n"

_LOOKS = streaming.pool("tail", LOOKS_AT_ONCE)
_POSITION = re.compile(r"([0-9a-f]{8})-(\d{1,12})-(\d{1,17})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Position:
    """How far somebody has read: up to which message of which reader, looked for when."""

    run: str
    number: int
    moment: datetime

    def __str__(self) -> str:
        return f"{self.run}-{self.number}-{(self.moment - _EPOCH) // _MICROSECOND}"

    @classmethod
    def behind(cls, page: Page) -> "Position":
        """Of somebody who has just seen the newest ``page``: what is older than its rows is no
        news."""
        moment = timezone.now()
        if page.next is not None:
            moment = max(moment, page.next.last_seen + LATE + _MICROSECOND)
        return cls("0" * 8, 0, moment)

    @classmethod
    def parse(cls, value: str) -> "Position":
        found = _POSITION.fullmatch(value)
        if found is None:
            sentence = _("This is no place in a live tail.")
            raise InvalidInput(sentence, fields={"after": sentence})
        return cls(found[1], int(found[2]), _EPOCH + int(found[3]) * _MICROSECOND)


@dataclass(frozen=True)
class Followed:
    """A search, and where it looks: those with equal ones share a reader."""

    query: Query
    """Its times mean nothing."""
    marks: tuple[object, ...]
    scope: Scope = field(compare=False)

    @classmethod
    def of(cls, user: Any, query: Query) -> "Followed":
        scope = search.scope_of(user, query.clusters)
        clusters = sorted(scope.known.items())
        marks = [
            (key, row.name, row.uid, row.insecure_tls, key in scope.limited)
            for key, row in clusters
        ]
        timeless = replace(query, since=_EPOCH, until=_EPOCH)
        return cls(timeless, (scope.is_all, scope.teams, *marks), scope)


@dataclass(frozen=True)
class Shape:
    """How rows are written, and the address at which the search itself is."""

    write: Callable[[Scope, Sequence[FoundEvent]], list[Any]]
    address: Callable[[], str]


@dataclass(frozen=True)
class LeftOut:
    """Events that were too many to tell; ``is_more``: there are yet others.  With none counted it
    says where is not looked any more: what is stored there late is not told."""

    count: int
    is_more: bool
    since: datetime
    until: datetime


@dataclass(frozen=True, eq=False)
class Batch:
    """What is told at once, oldest first."""

    number: int
    moment: datetime
    rows: Sequence[FoundEvent]
    left_out: LeftOut | None


@dataclass(eq=False)
class Viewer(streaming.Watcher):
    most: int = QUEUE_MESSAGES
    person: object = field(kw_only=True)
    shape: Shape = field(kw_only=True)
    language: str = field(kw_only=True)
    after: Position | None = field(kw_only=True)
    has_begun: bool = False
    told_away: str = ""
    told_short: bool = False


@dataclass(frozen=True)
class Look:
    """One look at the store: what was found in the window, and what each is to be told; ``short``:
    so many events come that this part of the window was not looked at."""

    moment: datetime
    rows: Sequence[FoundEvent]
    batch: Batch | None
    short: LeftOut | None
    texts: dict[Viewer, str]


class TailChannel(streaming.Channel):
    """The reader of one search.  While a look is under way, nothing of it is changed."""

    linger_seconds = 30.0

    def __init__(self, followed: Followed) -> None:
        self.followed = followed
        self.run = secrets.token_hex(4)
        self.number = 0
        self.began = self.looked = self.newest = self.said = timezone.now()
        self.has_looked = False
        self.failures = 0
        self.away: str = ""
        self.last: object = None
        """Who was the last to leave: a reader that lingers is theirs."""
        self._known: OrderedDict[str, object] = OrderedDict()
        self._remembered: deque[Batch] = deque()
        self._forgotten = 0
        self._wake = asyncio.Event()
        super().__init__()

    def begin(self, viewer: Viewer) -> None:
        """Serve somebody who has joined soon; while the store is away, they are told so."""
        if self.failures:
            self._say_away([viewer])
        elif not viewer.has_begun:
            self._wake.set()

    def is_of(self, person: object) -> bool:
        return person in ({each.person for each in self.watchers} or {self.last})

    # --- looking ----------------------------------------------------------------------------------

    async def _look_once(self) -> None:
        self._wake.clear()
        viewers = list(self.watchers)
        try:
            look = await streaming.in_thread(self._look, viewers, threads=_LOOKS)
        except (StoreAway, DatabaseError, InterfaceError) as error:
            logger.warning("tail_look_failed", failures=self.failures + 1, error=str(error))
            self._note_away(_why(error))
            return
        except Exception:  # the next look may go well, and those who follow would not know
            logger.exception("tail_look_failed", failures=self.failures + 1)
            self._note_away(Sentence("The portal made a mistake; it is in its log."))
            return
        self._take(look)
        for viewer, text in look.texts.items():
            viewer.has_begun, viewer.told_away = True, ""
            viewer.told_short = look.short is not None
            if text:
                viewer.put(text)

    async def _rest(self) -> None:
        pace = self._pace()
        soonest = pace if self.failures else min(SOONEST_SECONDS, pace)
        await asyncio.sleep(soonest)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pace - soonest)

    def _pace(self) -> float:
        return min(
            LOOK_SECONDS * 2.0 ** min(self.failures, 10), max(AWAY_SECONDS_MAX, LOOK_SECONDS)
        )

    def _since(self) -> datetime:
        """In a quiet search the window is not as old as its newest event."""
        return max(self.newest - LATE, self.looked - LATE_WHEN_QUIET)

    def _look(self, viewers: list[Viewer]) -> Look:
        now = timezone.now()
        since = self._since()
        missed = {each: self._missed_since(each, now) for each in viewers if not each.has_begun}
        earliest = min([since, *(moment - LATE for moment in missed.values() if moment)])
        page = search.page_in(
            self.followed.scope,
            replace(self.followed.query, since=earliest, until=now + MOST_AHEAD),
            limit=READ_MAX,
        )
        found = page.rows[::-1]
        window = [row for row in found if row.last_seen >= since]
        # What lies behind the rows that were read is new only if the last of these is.
        edge = found[0] if page.next else None
        short = None
        if edge is not None and edge.last_seen >= since:
            short = LeftOut(0, True, since, edge.last_seen + _MICROSECOND)
        batch = self._batch([row for row in window if self._is_new(row)], now, since, edge)
        parts: dict[Viewer, list[Batch]] = {}
        for viewer in viewers:
            parts[viewer] = [batch] if batch else []
            if (moment := missed.get(viewer)) is not None:
                rows = [row for row in found if row.last_seen >= moment - LATE]
                whole = self._batch(rows, now, moment, edge)
                parts[viewer] = [whole] if whole else []
            elif not viewer.has_begun and viewer.after is not None:
                told = [each for each in self._remembered if each.number > viewer.after.number]
                parts[viewer] = told + parts[viewer]
        return Look(now, window, batch, short, self._written(parts, now, batch, short))

    def _missed_since(self, viewer: Viewer, now: datetime) -> datetime | None:
        """From when on the store must be asked for somebody who joins; None where memory
        reaches."""
        after = viewer.after
        if after is None:
            return None
        # Of single namespaces one may have been taken since the rows were remembered.
        if self.followed.scope.limited:
            return max(after.moment, now - DEFAULT_SPAN)
        if after.run == self.run and self._forgotten <= after.number <= self.number:
            return None
        return max(after.moment, now - DEFAULT_SPAN)

    def _is_new(self, row: FoundEvent) -> bool:
        """What was there before anybody watched is not new; while the store is away from the
        beginning, only what was seen later than that is known to be."""
        if not self.has_looked and not (self.failures and row.last_seen >= self.began):
            return False
        return self._known.get(row.key) != _state(row)

    def _batch(
        self, rows: Sequence[FoundEvent], now: datetime, since: datetime, edge: FoundEvent | None
    ) -> Batch | None:
        """Those left out are counted from ``since`` on: who comes back was told the others."""
        if not rows:
            return None
        told = rows[-TOLD_MAX:]
        left = [row for row in rows[:-TOLD_MAX] if row.last_seen >= since]
        left_out = None
        if left:
            is_more = left[0] is edge
            first = since if is_more else left[0].last_seen
            left_out = LeftOut(len(left), is_more, first, left[-1].last_seen + _MICROSECOND)
        return Batch(self.number + 1, now, told, left_out)

    def _take(self, look: Look) -> None:
        for row in look.rows:
            self._known[row.key] = _state(row)
            self._known.move_to_end(row.key)
            self.newest = max(self.newest, min(row.last_seen, look.moment))
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        self.looked, self.has_looked, self.failures, self.away = look.moment, True, 0, ""
        if look.batch is not None:
            self.number = look.batch.number
            self._remembered.append(look.batch)
            while sum(len(each.rows) for each in self._remembered) > REMEMBERED_MAX:
                self._forgotten = self._remembered.popleft().number
        if any(look.texts.values()):
            self.said = look.moment

    # --- telling ----------------------------------------------------------------------------------

    def _written(
        self,
        parts: dict[Viewer, list[Batch]],
        now: datetime,
        batch: Batch | None,
        short: LeftOut | None,
    ) -> dict[Viewer, str]:
        place = Position(self.run, batch.number if batch else self.number, now)
        is_silent = (now - self.said).total_seconds() > AT_SECONDS
        made: dict[tuple[Shape, str, Batch], str] = {}
        texts = {}
        for viewer, batches in parts.items():
            text = message("back", {}) if viewer.told_away and viewer.has_begun else ""
            for each in batches:
                key = (viewer.shape, viewer.language, each)
                if key not in made:
                    made[key] = self._text(*key)
                text += made[key]
            is_told = viewer.told_short or any(_is_more(each) for each in batches)
            if short is not None and not is_told:
                text += self._left_out(viewer.shape, short)
            if not viewer.has_begun:
                text += message("live", {}, number=place)
            elif is_silent and not text:
                text = message("at", {}, number=place)
            texts[viewer] = text
        return texts

    def _text(self, shape: Shape, language: str, batch: Batch) -> str:
        with translation.override(language):
            rows = shape.write(self.followed.scope, batch.rows)
        text = "" if batch.left_out is None else self._left_out(shape, batch.left_out)
        return text + message("rows", rows, number=Position(self.run, batch.number, batch.moment))

    def _left_out(self, shape: Shape, left: LeftOut) -> str:
        query = replace(self.followed.query, since=left.since, until=left.until)
        url = f"{shape.address()}?{asked.written(query)}"
        return message("left_out", {"count": left.count, "more": left.is_more, "url": url})

    def _note_away(self, why: str) -> None:
        self.failures += 1
        self.away = why
        self._say_away(self.watchers)

    def _say_away(self, viewers: Iterable[Viewer]) -> None:
        for viewer in viewers:
            with translation.override(viewer.language):
                said = self.away.now() if isinstance(self.away, Sentence) else self.away
            if viewer.told_away != said:
                viewer.told_away = said
                viewer.put(message("away", {"message": said}))


def _why(error: StoreAway | DatabaseError | InterfaceError) -> str:
    if isinstance(error, StoreAway):
        return error.message
    return Sentence("The portal's database does not answer now.")


def _is_more(batch: Batch) -> bool:
    return batch.left_out is not None and batch.left_out.is_more


def _state(row: FoundEvent) -> object:
    """Programs that are no Kubernetes may count no versions."""
    return row.version, row.count, row.last_seen


# --- streams --------------------------------------------------------------------------------------


def answer(
    request: HttpRequest, *, user: Any, auth: Any, given: QueryDict, shape: Shape
) -> HttpResponseBase:
    """The stream of what ``given`` searches for; InvalidInput where that is no search."""
    query = asked.timeless(user, given)
    after = request.headers.get("Last-Event-ID") or given.get("after")
    position = Position.parse(after) if after else None
    if request.method == "HEAD":  # whether it may be followed: a stream would not end
        return HttpResponse(content_type=streaming.CONTENT_TYPE)
    who = watching.person(request, user=user, auth=auth)
    followed = Followed.of(user, query)

    def why_not() -> str:
        now_user = who()
        if now_user is None:
            return "forbidden"
        return "" if Followed.of(now_user, query) == followed else "changed"

    parts = stream(
        followed,
        person=user.pk,
        shape=shape,
        language=translation.get_language() or settings.LANGUAGE_CODE,
        after=position,
        why_not=why_not,
    )
    return streaming.answer(request, parts)


async def stream(
    followed: Followed,
    *,
    person: object,
    shape: Shape,
    language: str,
    after: Position | None,
    why_not: Callable[[], str],
) -> AsyncIterator[str]:
    """What one viewer is told; without ``after`` from now on."""
    centre = streaming.hub(TailChannel)
    if (followed,) not in centre.channels:
        with translation.override(language):
            full = _why_full(list(centre.channels.values()), person)
        if full:
            yield FULL_RETRY + message("away", {"message": full})
            return
    yield streaming.RETRY
    viewer = Viewer(person=person, shape=shape, language=language, after=after)
    channel, _viewer = await centre.join(followed, watcher=viewer)
    try:
        channel.begin(viewer)
        async for text in streaming.watch(viewer, why_not=why_not):
            yield text
    finally:
        channel.last = person
        centre.leave(channel, viewer)


def _why_full(channels: Sequence[TailChannel], person: object) -> str:
    """Why there cannot be one more reader, if there cannot."""
    if sum(each.is_of(person) for each in channels) >= SEARCHES_OF_ONE_MAX:
        return _(
            "You follow %(count)s different searches already; close one of them. It is tried again "
            "by itself."
        ) % {"count": SEARCHES_OF_ONE_MAX}
    if len(channels) >= SEARCHES_MAX:
        return _("Too many different searches are followed now; it is tried again by itself.")
    return ""
