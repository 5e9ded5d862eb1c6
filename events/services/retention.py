"""How long events are kept: warnings longer than the rest, nothing of clusters that are gone."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.translation import ngettext

from beidou.base import tasks
from clusters.models import Cluster
from events.models import EventStream
from events.services.stores import chosen
from events.services.stores.base import Limit, Limits


def forget_old() -> int:
    """Delete what is past its time; gives how many rows, or whole days of them, went."""
    today = timezone.now().date()
    usual = Limit(
        normal=today - timedelta(days=settings.EVENT_DAYS),
        warnings=today - timedelta(days=settings.EVENT_WARNING_DAYS),
    )
    return chosen.store().forget(Limits(usual)) + forget_clusters()


def forget_clusters() -> int:
    """Delete the events of clusters that were un-adopted."""
    return chosen.store().forget_clusters()


def forget_soon(_key: int) -> None:
    """A cluster was un-adopted: the clock need not be waited for."""
    tasks.enqueue_on_commit("events.tasks.forget_clusters")


def what_goes_with_cluster(cluster: Cluster) -> list[str]:
    """For the page that asks before a cluster is un-adopted."""
    stored = EventStream.objects.filter(cluster=cluster).values_list("stored", flat=True).first()
    if not stored:
        return []
    return [
        ngettext(
            "What is kept of its events (%(count)s was stored) is removed, too.",
            "What is kept of its events (%(count)s were stored) is removed, too.",
            stored,
        )
        % {"count": stored}
    ]
