"""What monitoring asks: is the process alive, can it serve, and how is the portal doing.

``/healthz`` says that the process answers, ``/readyz`` that it can serve (503 with the reason
otherwise), ``/metrics`` gives Prometheus its figures.  Figures about the fleet are counted in the
database when they are asked for, so that every web process gives the same.
"""

import hmac
import ipaddress
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_q.models import OrmQ
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from beidou.base.middleware import client_address
from beidou.base.models import Notice
from beidou.base.preparation import unapplied_migrations
from beidou.base.tasks import BUSY, CLOCK, OUTSIDE, QUEUES, WORK

QUEUE_AGE_MAX = 300.0  # seconds a due task may wait before the workers are taken for dead
_MIGRATIONS_CHECKED = "beidou-migrations-applied"


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    problems = list(_problems())
    return JsonResponse(
        {"ready": not problems, "problems": problems}, status=503 if problems else 200
    )


def _problems() -> Iterator[str]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        yield "The database does not answer."
        return
    if not cache.get(_MIGRATIONS_CHECKED):
        missing = unapplied_migrations()
        if missing:
            yield f"Migrations are missing: {', '.join(missing[:3])}; run `manage.py migrate`."
            return
        cache.set(_MIGRATIONS_CHECKED, True, 3600)
    ages = queue_ages()
    if ages[CLOCK] > QUEUE_AGE_MAX:
        yield f"A task of the clock has been waiting for {ages[CLOCK]:.0f} s: no worker runs."
    elif ages[WORK] > QUEUE_AGE_MAX and not any(is_busy() for is_busy in BUSY.values()):
        yield f"A task has been waiting for {ages[WORK]:.0f} s: no worker takes from the queue."
    if ages[OUTSIDE] > QUEUE_AGE_MAX:
        waits = f"{ages[OUTSIDE]:.0f} s"
        yield f"A question to a system outside has been waiting for {waits}: no callers run."
    age = notice_age()
    if age > QUEUE_AGE_MAX:
        yield f"A notice has been waiting for {age:.0f} s: no messenger runs."


def notice_age() -> float:
    """Seconds that the oldest notice waits for the messenger; 0 without one."""
    waiting = Notice.objects.filter(routed_at=None).order_by("pk")
    oldest = waiting.values_list("at", flat=True).first()
    return 0.0 if oldest is None else max(0.0, (timezone.now() - oldest).total_seconds())


def queue_ages() -> dict[str, float]:
    """Seconds that the oldest due task of each queue in the database waits; 0 without one.

    A task that a worker holds is not due: its lock lies in the future.
    """
    ages = dict.fromkeys(QUEUES, 0.0)
    if settings.Q_CLUSTER.get("orm") is None:
        return ages
    now = timezone.now()
    due = OrmQ.objects.order_by().filter(key__in=ages, lock__lt=now).values_list("key")
    for key, oldest in due.annotate(oldest=models.Min("lock")):
        ages[key] = max(0.0, float((now - oldest).total_seconds()))
    return ages


def _may_read_metrics(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), settings.METRICS_TOKEN.encode())
    try:
        return ipaddress.ip_address(client_address(request)).is_loopback
    except ValueError:
        return False


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not _may_read_metrics(request):
        return HttpResponse("Metrics need the token of BEIDOU_METRICS_TOKEN.\n", status=401)
    return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)


class FleetCollector(Collector):
    """The figures of the database; few grouped counts over indexed columns."""

    def describe(self) -> list[Metric]:
        return []  # known at collection only; also keeps registration from asking the database

    def collect(self) -> Iterator[Metric]:
        yield _counted("operations", "Operation", "status", "Operations by status.")
        yield _counted("clusters", "Cluster", "health", "Clusters by health.")
        yield _counted("clusters", "Cluster", "phase", "Clusters by phase.")
        yield _counted("machines", "Machine", "state", "Machines by lifecycle state.")
        yield _nodes()
        yield _lag()
        yield from _event_streams()
        yield _queue_lengths()
        age = GaugeMetricFamily(
            "beidou_queue_age_seconds", "How long the oldest due task waits.", labels=["queue"]
        )
        for name, seconds in queue_ages().items():
            age.add_metric([name], seconds)
        yield age


def _queue_lengths() -> Metric:
    rows = OrmQ.objects.order_by().values_list("key")
    counts = dict(rows.annotate(count=models.Count("pk")))
    family = GaugeMetricFamily(
        "beidou_queue_length", "Tasks in the queues of the database.", labels=["queue"]
    )
    for name in QUEUES:
        family.add_metric([name], counts.get(name, 0))
    return family


def _counted(app: str, model: str, field: str, meaning: str) -> Metric:
    rows = apps.get_model(app, model)._default_manager.order_by()
    family = GaugeMetricFamily(f"beidou_{app}_by_{field}", meaning, labels=[field])
    for value, count in rows.values_list(field).annotate(count=models.Count("pk")):
        family.add_metric([str(value)], count)
    return family


def _nodes() -> Metric:
    sums = apps.get_model("clusters", "Cluster")._default_manager.aggregate(
        total=models.Sum("nodes_total"), ready=models.Sum("nodes_ready")
    )
    family = GaugeMetricFamily("beidou_nodes", "Nodes of all clusters.", labels=["state"])
    total, ready = sums["total"] or 0, sums["ready"] or 0
    family.add_metric(["ready"], ready)
    family.add_metric(["not_ready"], total - ready)
    return family


def _lag() -> Metric:
    family = GaugeMetricFamily(
        "beidou_collector_lag_seconds",
        "Age of a cluster's figures.",
        labels=["cluster"],
    )
    now = timezone.now()
    rows = apps.get_model("clusters", "Cluster")._default_manager.order_by("name")
    for name, observed_at in rows.values_list("name", "observed_at"):
        if observed_at is not None:
            family.add_metric([name], max(0.0, (now - observed_at).total_seconds()))
    return family


_OF_STREAMS = (
    "cluster__name", "cluster__phase", "lag_seconds", "waiting", "stored", "refused",
    "waiting_bytes", "spool_percent", "problem", "updated_at", "last_event_at",
)  # fmt: skip


def _event_streams() -> Iterator[Metric]:
    """How the events of each cluster flow, as its collector last said."""
    lag = GaugeMetricFamily(
        "beidou_events_lag_seconds",
        "How long the oldest event that is not stored yet has waited.",
        labels=["cluster"],
    )
    waiting = GaugeMetricFamily(
        "beidou_events_waiting", "Events that are not stored yet.", labels=["cluster"]
    )
    stored = CounterMetricFamily(
        "beidou_events_stored", "Events and their updates that were stored.", labels=["cluster"]
    )
    refused = CounterMetricFamily(
        "beidou_events_refused",
        "Events that the event store refused for good; the collector's log has them.",
        labels=["cluster"],
    )
    spool = GaugeMetricFamily(
        "beidou_events_spool_bytes", "Size of what waits in the spool.", labels=["cluster"]
    )
    full = GaugeMetricFamily(
        "beidou_events_spool_full_ratio",
        "How full the spool of the cluster's collector is; at 1 no more is read.",
        labels=["cluster"],
    )
    problem = GaugeMetricFamily(
        "beidou_events_problem",
        "1 while something holds the events up, or no collector reports.",
        labels=["cluster"],
    )
    reported = GaugeMetricFamily(
        "beidou_events_reported_timestamp_seconds",
        "When a collector last told all this of the cluster.",
        labels=["cluster"],
    )
    last = GaugeMetricFamily(
        "beidou_events_last_event_timestamp_seconds",
        "When the newest event that was stored was seen.",
        labels=["cluster"],
    )
    now = timezone.now()
    rows: Any = apps.get_model("events", "EventStream")._default_manager.order_by("cluster__name")
    for stream in rows.select_related("cluster").only(*_OF_STREAMS):
        of = [stream.cluster.name]
        lag.add_metric(of, stream.lag_seconds)
        waiting.add_metric(of, stream.waiting)
        stored.add_metric(of, stream.stored)
        refused.add_metric(of, stream.refused)
        spool.add_metric(of, stream.waiting_bytes)
        full.add_metric(of, stream.spool_percent / 100)
        is_left = stream.is_silent(now) and stream.cluster.is_watched
        problem.add_metric(of, 1 if stream.problem or is_left else 0)
        for family, moment in ((reported, stream.updated_at), (last, stream.last_event_at)):
            if moment is not None:
                family.add_metric(of, moment.timestamp())
    yield from (lag, waiting, stored, refused, spool, full, problem, reported, last)
    archiving = apps.get_model("events", "EventArchiving")._default_manager
    yield GaugeMetricFamily(
        "beidou_events_archive_problem",
        "1 while something keeps events from the archive.",
        value=int(archiving.exclude(problem="").exists()),
    )
    forgetting = apps.get_model("events", "EventForgetting")._default_manager
    since = forgetting.values_list("behind_since", flat=True).first()
    yield GaugeMetricFamily(
        "beidou_events_retention_behind_seconds",
        "For how long no run has deleted all that is past its time; 0 while they do.",
        value=0.0 if since is None else max(0.0, (now - since).total_seconds()),
    )
    firing = apps.get_model("events", "EventAlert")._default_manager.filter(ended_at=None)
    by_severity = firing.order_by().values_list("rule__severity")
    counts = dict(by_severity.annotate(count=models.Count("pk")))
    alerts = GaugeMetricFamily(
        "beidou_event_alerts_firing", "Alerts on events that fire.", labels=["severity"]
    )
    for severity in Notice.Severity.values:
        alerts.add_metric([severity], counts.get(severity, 0))
    yield alerts


REGISTRY.register(FleetCollector())
