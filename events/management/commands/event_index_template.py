"""``manage.py event_index_template``: for servers to which the portal itself does not write."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from events.services.stores import chosen
from events.services.stores.files import FilesStore


class Command(BaseCommand):
    help = "Print the index template of events, for a server to which a log agent writes."

    def handle(self, *args: Any, **options: Any) -> None:
        store = chosen.store()
        if not isinstance(store, FilesStore):
            raise CommandError("Only with BEIDOU_EVENT_FILES; otherwise the portal puts it itself.")
        self.stdout.write(json.dumps(store.template(), indent=2))
