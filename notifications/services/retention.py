"""Notices and the log of their messages are kept for ``BEIDOU_NOTICE_DAYS``."""

from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from beidou.base.models import Notice
from notifications.models import Delivery

DELETED_AT_ONCE: Final = 1000


# What is told once is known by its notice: 30 days before something expires, for example.
KEYS_KEPT: Final = timedelta(days=40)


def forget_old() -> int:
    """Delete notices and messages that are older than the setting says; returns how many."""
    now = timezone.now()
    limit = now - timedelta(days=settings.NOTICE_DAYS)
    told = Notice.objects.filter(at__lt=limit).exclude(routed_at=None)
    deleted = 0
    for rows in (
        told.filter(Q(key=None) | Q(at__lt=now - KEYS_KEPT)),
        Delivery.objects.filter(created_at__lt=limit).exclude(status=Delivery.Status.SENDING),
    ):
        while keys := list(rows.order_by("pk").values_list("pk", flat=True)[:DELETED_AT_ONCE]):
            rows.model._default_manager.filter(pk__in=keys).delete()
            deleted += len(keys)
    return deleted
