"""How long events are kept: warnings longer than the rest, nothing of clusters that are gone."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.translation import ngettext

from beidou.base import tasks
from clusters.models import Cluster
from events.drivers import days
from events.models import EventStream


def forget_old() -> int:
    """Delete what is past its time; gives how many rows, or whole days of them, went."""
    today = timezone.now().date()
    days.prepare_days({today, today + timedelta(days=1)})
    normal = today - timedelta(days=settings.EVENT_DAYS)
    longest = today - timedelta(days=max(settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS))
    warnings = today - timedelta(days=settings.EVENT_WARNING_DAYS)
    gone = days.drop_before(longest)
    gone += days.delete_unseen_since(normal, "type <> 'Warning'")
    gone += days.delete_unseen_since(warnings, "type = 'Warning'")
    return gone + forget_clusters()


def forget_clusters() -> int:
    """Delete the events of clusters that were un-adopted."""
    return days.delete_where(
        f"NOT EXISTS (SELECT 1 FROM {Cluster._meta.db_table} c"  # noqa: S608 - only our names
        f" WHERE c.id = {days.TABLE}.cluster_id)",
        [],
    )


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
