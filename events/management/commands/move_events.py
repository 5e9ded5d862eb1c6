"""``manage.py move_events FROM TO``: events from one store into another."""

from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from beidou.base.config import parse_event_store_url
from clusters.models import Cluster
from events.drivers.errors import StoreAway
from events.services import moving
from events.services.stores import chosen

CONFIGURED = "configured"


class Command(BaseCommand):
    help = (
        "Copy the events of all clusters, or of those named, from one event store into another; "
        "`database`, `configured` (BEIDOU_EVENT_STORE_URL) or an address as there. Stopped "
        "anywhere, it goes on where it was; done again, it copies what came meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", metavar="FROM")
        parser.add_argument("target", metavar="TO")
        parser.add_argument("--cluster", action="append", default=[], help="Name; repeatable.")

    def handle(self, *args: Any, **options: Any) -> None:
        source, target = _side(options["source"]), _side(options["target"])
        if source.label == target.label:
            raise CommandError("Both are the same event store.")
        clusters = _clusters(options["cluster"])
        try:
            for progress in moving.move(source, target, clusters):
                if progress.is_done or progress.moved % (500 * moving.AT_ONCE) == 0:
                    self.stdout.write(_line(progress))
        except StoreAway as error:
            raise CommandError(f"{error.message} Run the same again to go on.") from error


def _line(progress: moving.Progress) -> str:
    refused = f", {progress.refused} refused (see the log)" if progress.refused else ""
    done = "done" if progress.is_done else "so far"
    return f"{progress.cluster.name}: {progress.moved:,} events {done}{refused}"


def _side(text: str) -> moving.Side:
    try:
        address = settings.EVENT_STORE if text == CONFIGURED else parse_event_store_url(text)
    except ValueError as error:
        raise CommandError(f"The event store {error}.") from None
    if address is None:
        return moving.Side(chosen.of(None), "database")
    if text != CONFIGURED:
        # A user of its own is told in the address; the key of one server is not sent to another.
        key = "" if address.user else settings.EVENT_STORE_API_KEY
        address = replace(address, api_key=key, ca=settings.EVENT_STORE_CA)
    label = f"{address.product} {' '.join(address.nodes)} {address.prefix}"
    return moving.Side(chosen.of(address), label[:500])


def _clusters(names: list[str]) -> list[Cluster]:
    rows = Cluster.objects.order_by("name")
    if not names:
        return list(rows)
    found = {cluster.name: cluster for cluster in rows.filter(name__in=names)}
    if unknown := sorted(set(names) - set(found)):
        raise CommandError(f"There is no cluster {', '.join(unknown)}.")
    return [found[name] for name in names]
