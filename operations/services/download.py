"""An operation's output as a text file, streamed."""

from collections.abc import Iterator
from datetime import UTC, datetime

from operations.models import Operation
from operations.services import lines, output


def text_of(operation: Operation, *, wanted: lines.Wanted = lines.ALL) -> Iterator[str]:
    """``time (UTC)  machine  level  text`` per line, in pieces of some thousand lines."""
    names = {
        key: hostname or address
        for key, address, hostname in operation.machines.values_list("pk", "address", "hostname")
    }
    width = max([len(name) for name in names.values()] or [1])
    after = 0
    while True:
        piece = lines.forwards(operation, after=after, limit=lines.LIMIT_MAX, wanted=wanted)
        if piece.lines:
            yield "".join(_line(each, names, width) for each in piece.lines)
        if piece.after >= piece.last:
            return
        after = piece.after


def _line(line: output.Line, names: dict[int, str], width: int) -> str:
    at = datetime.fromtimestamp(line.at / 1000, tz=UTC)
    stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{line.at % 1000:03}Z"
    return f"{stamp}  {names.get(line.machine, '-'):<{width}}  {line.level:<7}  {line.text}\n"
