"""The rows that say how each cluster's events flow; written by the collector that holds it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from django.db import DatabaseError, transaction
from django.db.models import F
from django.utils import timezone

from beidou.base import notices
from beidou.base.notices import News, Severity
from beidou.base.sentences import Sentence, joined
from clusters.services import leases
from events.models import EventStream

logger = structlog.get_logger(__name__)
SPOOL: Final = "event.spool"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What has changed since the last one, and how it stands."""

    cluster_id: int
    position: str
    position_at: float
    contact_at: datetime | None
    last_event_at: datetime | None
    problem: str
    problem_since: datetime | None
    heard: int
    stored: int
    refused: int
    waiting: int
    waiting_bytes: int
    spool_percent: int
    lag_seconds: float
    per_minute: float


def position_of(cluster_id: int) -> tuple[str, float]:
    """Up to where everything is stored, and when that was reached (seconds since 1970)."""
    row = EventStream.objects.filter(cluster_id=cluster_id).first()
    if row is None or row.position_at is None:
        return "", 0.0
    return row.position, row.position_at.timestamp()


def forget_position(cluster_uid: str) -> None:
    """The cluster is listed anew by whoever begins to read it."""
    EventStream.objects.filter(cluster__uid=cluster_uid).update(position="", position_at=None)


def write(holder: str, reports: list[Report]) -> list[int]:
    """Only what ``holder`` may say: another collector's clusters are left out.  Gives the clusters
    of which it was written; what the database refuses of one costs no other."""
    written = []
    for report in reports:
        try:
            with transaction.atomic():
                if leases.holds(holder, report.cluster_id):
                    _write(holder, report)
                    written.append(report.cluster_id)
        except DatabaseError:
            logger.exception("stream_not_written", cluster_id=report.cluster_id)
    return written


def write_problem(holder: str, cluster_id: int, sentence: str, since: datetime) -> bool:
    """Of a cluster that cannot be read, and of which nothing else is known; False when it is
    another collector's."""
    with transaction.atomic():
        if not leases.holds(holder, cluster_id):
            return False
        values = {"holder": holder, "problem": sentence, "problem_since": since}
        values["updated_at"] = timezone.now()
        EventStream.objects.update_or_create(cluster_id=cluster_id, defaults=values)
    return True


def tell_of_spool(holder: str, sentence: str, since: datetime) -> None:
    """Whoever looks after the portal must know before nothing more can be read."""
    notices.publish(
        News(
            kind=SPOOL,
            severity=Severity.CRITICAL,
            title=Sentence(
                "Events of clusters are in danger: the spool of collector %(name)s fills.",
                name=holder,
            ),
            details=joined(
                [
                    sentence,
                    Sentence(
                        "When it is full, nothing more is read from the clusters, which forget "
                        "their events after an hour. Look after the event store, or give the "
                        "spool more room (BEIDOU_EVENT_SPOOL_MIB)."
                    ),
                ]
            ),
            key=f"{SPOOL}:{holder}:{since:%Y-%m-%dT%H:%M:%S}",
        )
    )


def _write(holder: str, report: Report) -> None:
    EventStream.objects.get_or_create(cluster_id=report.cluster_id)
    values: dict[str, object] = {
        "holder": holder,
        "problem": report.problem,
        "problem_since": report.problem_since,
        "heard": F("heard") + report.heard,
        "stored": F("stored") + report.stored,
        "refused": F("refused") + report.refused,
        "waiting": report.waiting,
        "waiting_bytes": report.waiting_bytes,
        "spool_percent": report.spool_percent,
        "lag_seconds": report.lag_seconds,
        "per_minute": report.per_minute,
        "updated_at": timezone.now(),
    }
    if report.position:
        values["position"] = report.position
        values["position_at"] = datetime.fromtimestamp(report.position_at, UTC)
    if report.contact_at is not None:
        values["contact_at"] = report.contact_at
    if report.last_event_at is not None:
        values["last_event_at"] = report.last_event_at
    EventStream.objects.filter(cluster_id=report.cluster_id).update(**values)
