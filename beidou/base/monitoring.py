"""What monitoring asks: is the process alive, can it serve, and how is the portal doing.

``/healthz`` says that the process answers, ``/readyz`` that it can serve (503 with the reason
otherwise), ``/metrics`` gives Prometheus its figures.  Figures about the fleet are counted in the
database when they are asked for, so that every web process gives the same.
"""

import hmac
import ipaddress
from collections.abc import Iterator

from django.apps import apps
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_q.models import OrmQ
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from beidou.base.middleware import client_address
from beidou.base.preparation import unapplied_migrations

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
    age = queue_age()
    if age > QUEUE_AGE_MAX:
        yield f"A task has been waiting for {age:.0f} s: no worker takes from the queue."


def queue_age() -> float:
    """Seconds that the oldest due task of the database broker waits; 0 without one.

    A task that a worker holds is not due: its lock lies in the future.
    """
    if settings.Q_CLUSTER.get("orm") is None:
        return 0.0
    oldest = OrmQ.objects.filter(lock__lt=timezone.now()).order_by("lock").first()
    if oldest is None or oldest.lock is None:
        return 0.0
    return max(0.0, float((timezone.now() - oldest.lock).total_seconds()))


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
        queue = GaugeMetricFamily("beidou_queue_length", "Tasks in the database queue.")
        queue.add_metric([], OrmQ.objects.count())
        yield queue
        age = GaugeMetricFamily("beidou_queue_age_seconds", "How long the oldest due task waits.")
        age.add_metric([], queue_age())
        yield age


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


REGISTRY.register(FleetCollector())
