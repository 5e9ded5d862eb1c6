"""Lists as files: sent while they are read, so that no list is too long for them."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from beidou.base.sentences import in_english

_LINES_AT_ONCE = 2000


def answer(
    request: HttpRequest, lines: Iterator[str], *, name: str, content_type: str
) -> StreamingHttpResponse:
    """``lines`` as the file ``name``; they may read the database."""
    return StreamingHttpResponse(
        in_thread(lines) if isinstance(request, ASGIRequest) else lines,
        content_type=content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Accel-Buffering": "no",
        },
    )


def csv_line(cells: Iterable[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerow(cells)
    return stream.getvalue()


def csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    # Of one language, as its verbs are: it is for programs, and to be searched.
    value = in_english(value)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    # A spreadsheet would run what begins like a formula.
    is_formula = text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if is_formula and not text.lstrip("-").isdigit() else text


async def in_thread(lines: Iterator[str]) -> AsyncIterator[str]:
    """``lines`` for the ASGI server, which else would gather them all before it sends one."""

    def some() -> str:
        return "".join(line for _number, line in zip(range(_LINES_AT_ONCE), lines, strict=False))

    take = sync_to_async(some)
    while chunk := await take():
        yield chunk
