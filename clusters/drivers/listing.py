"""Reading a LIST page by page."""

from collections.abc import Iterator, Mapping

from beidou.base.sentences import Sentence
from clusters.drivers.objects import InfoT, Resource
from clusters.drivers.transport import Transport

PAGE = 500


def iterate(
    transport: Transport,
    resource: Resource[InfoT],
    *,
    path: str = "",
    page: int = PAGE,
    query: Mapping[str, str] | None = None,
) -> Iterator[InfoT]:
    """All objects; ``path`` narrows the resource, for example to a namespace."""
    action = Sentence("list the %(what)s", what=resource.title)
    position = ""
    while True:
        asked: dict[str, str | int] = {**(query or {}), "limit": page}
        if position:
            asked["continue"] = position
        data = transport.call("GET", path or resource.path, action=action, query=asked)
        items, metadata = transport.decode(resource.decode_page, data, action=action)
        yield from items
        position = metadata.continue_
        if not position:
            return
