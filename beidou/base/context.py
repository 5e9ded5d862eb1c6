"""Who is acting, from where and under which request id, for everything below the edges.

Set by the middleware for requests, by commands and by the worker for what they do on behalf of
somebody.  Audit entries, status changes and log lines read it, so that no function in between has
to carry it.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Context:
    """``actor_id`` is the user's key; programs without a user have a name only."""

    actor_id: int | None = None
    actor_name: str = "system"
    address: str = ""
    request_id: str = ""


_NOBODY = Context()
_current: ContextVar[Context] = ContextVar("beidou_context", default=_NOBODY)


def current() -> Context:
    return _current.get()


def new_request_id() -> str:
    return uuid.uuid4().hex


@contextmanager
def acting(**changes: Any) -> Iterator[Context]:
    """Run a block as somebody else: ``with acting(actor_id=user.pk, actor_name=str(user)):``."""
    token = _current.set(replace(_current.get(), **changes))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def set_current(context: Context) -> None:
    """For the middleware alone, which learns who acts in the middle of a request."""
    _current.set(context)


# What the present request was refused; a list, so that all who share the request see what is added.
_refused: ContextVar[list[Any] | None] = ContextVar("beidou_refused", default=None)


@contextmanager
def noting_refusals() -> Iterator[list[Any]]:
    """The objects about which ``note_refusal`` is called inside."""
    noted: list[Any] = []
    token = _refused.set(noted)
    try:
        yield noted
    finally:
        _refused.reset(token)


def note_refusal(obj: Any) -> None:
    """A right on ``obj`` was missing; the record of the refused request will name it."""
    noted = _refused.get()
    if noted is not None:
        noted.append(obj)
