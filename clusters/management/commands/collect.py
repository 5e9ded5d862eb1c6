"""``manage.py collect``: watch all clusters until SIGTERM or Ctrl-C."""

import asyncio
import signal
from typing import Any

from django.core.checks import Tags
from django.core.management.base import BaseCommand

from beidou.base import context
from clusters.collector.process import CollectorProcess


class Command(BaseCommand):
    help = "Watch the clusters and keep the inventory fresh; several may run and share the work."
    # The others load every page and the API; what memory there is is for nodes and pods.
    requires_system_checks = [Tags.caches, Tags.database, Tags.files, Tags.models]

    def handle(self, *args: Any, **options: Any) -> None:
        with context.acting(actor_name="collector"):
            asyncio.run(collect())


async def collect() -> None:
    """Run until the process is asked to end."""
    collector = CollectorProcess()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, collector.stop.set)
    await collector.run()
