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
