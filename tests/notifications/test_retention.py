"""Old notices and messages go; what must not be told twice stays longer."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.models import Notice
from notifications.models import Delivery
from notifications.services import retention
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _a_week(settings):
    settings.NOTICE_DAYS = 7


def ago(days):
    return timezone.now() - timedelta(days=days)


def test_old_notices_and_messages_go(monkeypatch):
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 2)
    for days in (6, 8, 9, 10):
        factories.make_notice(at=ago(days), routed_at=ago(days))
        factories.make_delivery(status="sent", created_at=ago(days))
    Notice.objects.filter(at__gt=ago(1)).delete()  # those that the messages were made of
    assert retention.forget_old() == 6
    assert Notice.objects.count() == Delivery.objects.count() == 1


def test_what_was_not_handed_on_stays():
    factories.make_notice(at=ago(30))
    assert retention.forget_old() == 0


def test_what_is_told_once_stays_until_its_time_is_over():
    factories.make_notice(at=ago(35), routed_at=ago(35), key="in 30 days")
    factories.make_notice(at=ago(45), routed_at=ago(45), key="long ago")
    retention.forget_old()
    assert Notice.objects.get().key == "in 30 days"
