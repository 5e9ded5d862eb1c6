"""``manage.py restore_events``: days of a cluster back from the archive, for a while."""

from argparse import ArgumentTypeError
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from beidou.base.errors import InvalidInput
from clusters.models import Cluster
from events.models import EventRestore
from events.services import restoring


class Command(BaseCommand):
    help = (
        "Bring the events of a cluster that were last seen on these days back from the archive "
        "into the event store. Stopped anywhere, it can be done again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--cluster", required=True, metavar="NAME")
        parser.add_argument("--since", required=True, type=_day, metavar="DAY", help="2026-11-26")
        parser.add_argument("--until", required=True, type=_day, metavar="DAY", help="The last.")
        parser.add_argument(
            "--keep-days", type=int, default=restoring.DAYS, help="Then they leave again."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        row = EventRestore(
            cluster=_cluster(options["cluster"]),
            since=options["since"],
            until=options["until"],
            kept_until=timezone.now().date() + timedelta(days=options["keep_days"]),
        )
        try:
            restoring.begin(row)
        except InvalidInput as error:
            raise CommandError(error.message) from None
        for segment in restoring.restore(row):
            told = segment.problem or f"{segment.events:,} events"
            self.stdout.write(f"{segment.object_name}: {told}")
        if row.problem:
            raise CommandError(f"{row.problem} Run the same again once this is mended.")
        refused = f", {row.refused} refused (see the log)" if row.refused else ""
        self.stdout.write(f"{row.events:,} events are back until {row.kept_until}{refused}.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day; write it as 2026-11-26") from None


def _cluster(name: str) -> Cluster:
    found = Cluster.objects.filter(name=name).first()
    if found is None:
        raise CommandError(
            f"There is no cluster {name}. Of one that was un-adopted: adopt it again first."
        )
    return found
