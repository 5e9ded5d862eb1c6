"""What ends soon."""

from datetime import timedelta

import pytest
from django.utils import timezone

from clusters.models import ClusterCredential
from clusters.services.expiry import expiring
from tests import factories

pytestmark = pytest.mark.django_db


def ending(name, *, credential=None, certificate=None):
    now = timezone.now()
    cluster = factories.make_cluster(
        name, server_certificate_expires_at=certificate and now + certificate
    )
    ClusterCredential.objects.create(cluster=cluster, expires_at=credential and now + credential)
    return cluster


def test_the_soonest_comes_first_and_late_ones_are_left_out():
    ending("late", credential=timedelta(days=300), certificate=timedelta(days=300))
    ending("endless")
    ending("certificate", certificate=timedelta(days=9))
    ending("credential", credential=timedelta(days=3), certificate=timedelta(days=300))
    ending("past", credential=timedelta(days=-1))
    assert [row.name for row in expiring()] == ["past", "credential", "certificate"]


def test_it_is_one_query(django_assert_num_queries):
    ending("soon", credential=timedelta(days=3))
    with django_assert_num_queries(1):
        ends = [getattr(row, "credential_expires_at", None) for row in expiring()]
    assert len(ends) == 1
    assert ends[0] is not None
