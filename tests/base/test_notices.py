"""The outbox: written with the change, told once, and never in the way."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from beidou.base import notices
from beidou.base.models import Notice
from beidou.base.notices import News, Severity
from beidou.base.permissions import visible_to
from beidou.base.sentences import Sentence
from tests import factories

pytestmark = pytest.mark.django_db


def news(**values) -> News:
    return News(
        **{
            "kind": "account.locked_out",
            "severity": Severity.WARNING,
            "title": Sentence("The name %(name)s is locked out.", name="eve"),
            **values,
        }
    )


def test_a_notice_says_what_happened_to_which_object(cluster_a):
    notices.publish(news(cluster_id=cluster_a.pk, about=cluster_a))
    stored = Notice.objects.get()
    assert stored.title == "The name eve is locked out."
    assert (stored.object_type, stored.object_id) == ("clusters.cluster", str(cluster_a.pk))
    assert stored.routed_at is None


def test_what_is_rolled_back_is_not_told():
    with transaction.atomic():
        notices.publish(news())
        transaction.set_rollback(True)
    assert not Notice.objects.exists()


def test_of_the_same_key_the_first_alone_is_told():
    notices.publish(news(key="once"))
    notices.publish(news(key="once", title=Sentence("again")))
    notices.publish(news(), news())
    assert Notice.objects.filter(key="once").get().title == "The name eve is locked out."
    assert Notice.objects.count() == 3
    assert notices.known(["once", "never"]) == {"once"}


def test_publishing_costs_one_insert(db):
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        notices.publish(*(news() for _number in range(50)))
    statements = [each["sql"] for each in captured if "SAVEPOINT" not in each["sql"]]
    assert len(statements) == 1
    assert statements[0].startswith("INSERT")


@pytest.mark.parametrize("key", ["no key", 2**70])
def test_what_cannot_be_published_does_not_spoil_the_change(key, caplog, cluster_a):
    with transaction.atomic():
        notices.publish(news(cluster_id=key), news())
        cluster_a.description = "changed"
        cluster_a.save()
    cluster_a.refresh_from_db()
    assert cluster_a.description == "changed"
    assert "notice_not_published" in caplog.text
    assert not Notice.objects.exists()


def test_a_kind_that_nobody_registered_is_logged_and_told(caplog):
    notices.publish(news(kind="made.up"))
    assert "notice_of_unknown_kind" in caplog.text
    assert Notice.objects.get().kind == "made.up"
    assert notices.label_of("made.up") == "made.up"


def test_a_lock_out_is_told(client, settings):
    factories.make_user("eve")
    for _attempt in range(settings.AXES_FAILURE_LIMIT):
        client.post("/login/", {"username": "eve", "password": "wrong"})
    stored = Notice.objects.get()
    assert (stored.kind, stored.cluster_id, stored.team_id) == ("account.locked_out", None, None)
    assert "eve" in stored.title
    assert "127.0.0.1" in stored.details


def test_people_of_a_team_see_the_notices_of_their_clusters_and_of_the_team_alone(
    viewer, stranger, viewers, cluster_a, cluster_b
):
    own = factories.make_notice(cluster=cluster_a)
    of_team = factories.make_notice(team_id=viewers.pk)
    factories.make_notice(cluster=cluster_b)
    factories.make_notice(cluster=cluster_b, team_id=viewers.pk)
    factories.make_notice()

    assert set(visible_to(viewer, Notice.objects.all())) == {own, of_team}
    assert not visible_to(stranger, Notice.objects.all()).exists()
