"""The store that the settings name; made once in each process."""

from functools import cache
from pathlib import Path

from django.conf import settings

from beidou.base.config import EventServer
from events.models import StoreOwner
from events.services.stores.base import Store
from events.services.stores.embedded import EmbeddedStore


def store() -> Store:
    return of(settings.EVENT_STORE, settings.EVENT_FILES)


@cache
def of(address: EventServer | None, folder: Path | None = None) -> Store:
    """The store at an address, None being the database; written by way of a folder of files."""
    if address is None:
        return EmbeddedStore()
    # Only here: neither the client nor what it needs is loaded where the database is the store.
    from events.services.stores.elastic import ElasticStore  # noqa: PLC0415

    server = ElasticStore(address, owner=str(_owner()))
    if folder is None:
        return server
    from events.services.stores.files import FilesStore  # noqa: PLC0415

    return FilesStore(server, folder, settings.EVENT_FILES_BYTES, waits=settings.EVENT_FILES_WAIT)


def _owner() -> object:
    row, _is_new = StoreOwner.objects.get_or_create(pk=1)
    return row.key
