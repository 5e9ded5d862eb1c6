"""For how long events are kept, on pages and in the API; and the pages of the archive."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from beidou.base import config
from beidou.base.errors import Forbidden, InvalidInput
from beidou.base.models import AuditEntry, Notice
from clusters.services import removal
from events.drivers.errors import StoreAway
from events.models import (
    Event,
    EventArchiving,
    EventForgetting,
    EventRestore,
    EventRetention,
    EventSegment,
)
from events.services import retention
from events.services.retention import Kept
from events.services.stores.embedded import EmbeddedStore
from tests import factories
from tests.events.test_pages import PAGE, look, text_of

pytestmark = pytest.mark.django_db
TODAY = timezone.now().date()
RETENTION, SEGMENTS, RESTORES = (
    f"/events/event{name}/" for name in ("retention", "segment", "restore")
)
API = "/api/v1"


@pytest.fixture
def owner(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


@pytest.fixture
def folder(tmp_path, settings):
    settings.EVENT_ARCHIVE = config.parse_event_archive_url(f"file://{tmp_path}")
    return tmp_path


@pytest.fixture
def asked(monkeypatch, django_capture_on_commit_callbacks):
    found = []
    monkeypatch.setattr("beidou.base.tasks.enqueue", lambda *given, **_more: found.append(given))
    return found


def make_segment(cluster, **values):
    moment = datetime(2026, 1, 5, 12, tzinfo=UTC)
    day = values.get("day", moment.date())
    number = values.get("number", 1)
    return EventSegment.objects.create(
        **{
            "cluster": cluster, "cluster_uid": cluster.uid, "cluster_name": cluster.name,
            "day": day, "part": "all", "number": number, "events": 12, "bytes": 2048,
            "object_name": f"{cluster.uid}/{day}-{number}.jsonl.gz", "sha256": "0" * 64,
            "first_seen": moment, "last_seen": moment, "removed_at": moment, **values,
        }
    )  # fmt: skip


def days_of(cluster):
    row = EventRetention.objects.filter(cluster=cluster).first()
    return row and (row.days, row.warning_days)


# --- how long -------------------------------------------------------------------------------------


def test_an_owner_sets_the_days_of_a_cluster(owner, browser, cluster_a):
    client = browser(owner)
    given = {"cluster": cluster_a.pk, "days": "7", "warning_days": ""}
    assert client.post(f"{RETENTION}add/", given).status_code == 302
    assert days_of(cluster_a) == (7, None)
    entry = AuditEntry.objects.get(object_type="events.eventretention")
    assert (entry.actor, entry.verb, entry.cluster_id) == ("owner", "change", cluster_a.pk)
    assert entry.after == {"days": 7}
    row = EventRetention.objects.get()
    page = f"{RETENTION}{row.pk}/change/"
    assert client.post(page, {"days": "8", "warning_days": "9"}).status_code == 302
    assert days_of(cluster_a) == (8, 9)
    assert client.post(f"{RETENTION}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert days_of(cluster_a) is None
    assert AuditEntry.objects.filter(verb="delete").count() == 1


@pytest.mark.parametrize("days", ["0", "3651", "-1", "many", "1.5"])
def test_days_that_are_none_are_refused_at_their_field(days, owner, browser, cluster_a):
    given = {"cluster": cluster_a.pk, "days": days}
    answer = browser(owner).post(f"{RETENTION}add/", given)
    assert answer.status_code == 200
    assert "days" in answer.context["adminform"].form.errors
    assert days_of(cluster_a) is None


def test_an_owner_chooses_among_his_clusters(owner, browser, cluster_a, cluster_b):
    page = text_of(browser(owner).get(f"{RETENTION}add/"))
    assert "cluster-a" in page
    assert "cluster-b" not in page
    answer = browser(owner).post(f"{RETENTION}add/", {"cluster": cluster_b.pk, "days": "1"})
    assert answer.status_code == 200
    assert days_of(cluster_b) is None


@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_who_is_no_owner_changes_nothing(who, cast, browser, api, cluster_a):
    EventRetention.objects.create(cluster=cluster_a, days=5)
    row = EventRetention.objects.get()
    client = browser(cast[who])
    assert client.get(RETENTION).status_code == 200
    for page, given in (
        ("add/", {"cluster": cluster_a.pk, "days": "1"}),
        (f"{row.pk}/change/", {"days": "1"}),
        (f"{row.pk}/delete/", {"post": "yes"}),
    ):
        assert client.post(f"{RETENTION}{page}", given).status_code == 403
    answer = api(cast[who]).patch(f"{API}/event-retention/{cluster_a.pk}/", {"days": 1})
    assert answer.status_code == 403
    assert days_of(cluster_a) == (5, None)
    with pytest.raises(Forbidden):
        retention.save(cluster=cluster_a, values={"days": 1}, acting_user=cast[who])
    with pytest.raises(Forbidden):
        retention.remove(row, acting_user=cast[who])


def test_the_api_says_what_is_set_and_what_holds(owner, api, cluster_a, settings):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    client, address = api(owner), f"{API}/event-retention/{cluster_a.pk}/"
    told = client.get(address).json()
    assert (told["days"], told["kept_days"], told["kept_warning_days"]) == (None, 30, 90)
    changed = client.patch(address, {"warning_days": 10, "reason": "noisy"}, format="json").json()
    assert (changed["warning_days"], changed["kept_warning_days"]) == (10, 10)
    assert AuditEntry.objects.get(verb="change").reason == "noisy"
    assert client.get(f"{API}/event-retention/").json()["results"] == [changed]
    assert client.patch(address, {"warning_days": None}, format="json").json()["kept_days"] == 30
    for bad in ({"days": 0}, {"days": 9999}, {"day": 1}):
        assert client.patch(address, bad, format="json").status_code == 400


def test_the_service_refuses_days_that_are_none(admin, cluster_a):
    with pytest.raises(InvalidInput) as refused:
        retention.save(cluster=cluster_a, values={"days": 0}, acting_user=admin)
    assert set(refused.value.fields) == {"days"}
    assert days_of(cluster_a) is None


def test_the_event_centre_says_how_long_events_are_kept(
    viewer, browser, cluster_a, cluster_b, settings
):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    said = "Events are kept for 30 days, warnings for 90."
    assert said in look(browser(viewer))
    EventRetention.objects.create(cluster=cluster_a, days=7)
    EventRetention.objects.create(cluster=cluster_b, days=8)
    page = look(browser(viewer))
    assert f"{said} Otherwise: cluster-a (7, 90)" in page
    assert "cluster-b" not in page
    assert f'href="{RETENTION}"' in page
    page = look(browser(viewer), cluster=cluster_a.pk)
    assert "Events are kept for 7 days, warnings for 90." in page
    assert "Otherwise" not in page


def test_days_that_are_as_usual_are_not_told_apart(admin, cluster_a, settings):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    EventRetention.objects.create(cluster=cluster_a, days=30)
    assert retention.kept(admin) == (Kept(30, 90), [])


def test_the_page_of_a_stream_leads_to_the_days_of_its_cluster(
    viewer, browser, cluster_a, settings
):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    stream = factories.make_event_stream(cluster_a)
    client = browser(viewer)
    assert f'href="{RETENTION}"' in text_of(client.get("/events/eventstream/"))
    page = text_of(client.get(f"/events/eventstream/{stream.pk}/change/"))
    assert "30 days, warnings 90" in page
    assert f'href="{RETENTION}add/?cluster={cluster_a.pk}"' in page
    row = EventRetention.objects.create(cluster=cluster_a, days=2)
    page = text_of(client.get(f"/events/eventstream/{stream.pk}/change/"))
    assert "2 days, warnings 90" in page
    assert f'href="{RETENTION}{row.pk}/change/"' in page


# --- the archive ----------------------------------------------------------------------------------


def test_without_an_archive_its_page_says_so(viewer, browser, cluster_a, settings):
    settings.EVENT_ARCHIVE = None
    assert "BEIDOU_EVENT_ARCHIVE_URL is not set" in text_of(browser(viewer).get(SEGMENTS))
    assert browser(viewer).get(f"{RESTORES}add/").status_code == 403


def test_segments_are_listed_and_narrowed(viewer, browser, api, cluster_a, cluster_b, folder):
    segment = make_segment(cluster_a)
    make_segment(cluster_a, day=datetime(2026, 2, 1, tzinfo=UTC).date(), removed_at=None)
    make_segment(cluster_b)
    client = browser(viewer)
    page = text_of(client.get(SEGMENTS))
    assert "2" in re.search(r"([\d.]+).KiB", page)[1]
    assert "in the event store, too" in page
    assert "cluster-b" not in page
    back = f"{RESTORES}add/?cluster={cluster_a.pk}&since=2026-01-05&until=2026-01-05"
    assert f'href="{back}"' in page
    narrowed = text_of(client.get(SEGMENTS, {"day_from": "2026-01-20", "day_to": "2026-03-01"}))
    assert "since=2026-02-01" in narrowed
    assert "since=2026-01-05" not in narrowed
    assert segment.sha256 in text_of(client.get(f"{SEGMENTS}{segment.pk}/change/"))
    found = api(viewer).get(f"{API}/event-segments/", {"day__lte": "2026-01-31"}).json()
    assert [row["object_name"] for row in found["results"]] == [segment.object_name]


def test_segments_of_a_cluster_that_is_gone_are_for_administrators(
    admin, viewer, browser, cluster_a, folder
):
    segment = make_segment(cluster_a)
    EventSegment.objects.filter(pk=segment.pk).update(cluster=None)
    assert "cluster-a (un-adopted)" in text_of(browser(admin).get(SEGMENTS))
    assert "un-adopted" not in text_of(browser(viewer).get(SEGMENTS))


@pytest.mark.parametrize("page", [SEGMENTS, "/events/eventstream/"])
def test_what_hinders_the_archive_is_told(page, viewer, browser, cluster_a, folder):
    since = timezone.now() - timedelta(hours=3)
    EventArchiving.objects.create(pk=1, problem="It is away.", problem_since=since)
    found = text_of(browser(viewer).get(page))
    assert "It is away." in found
    assert "for 3 hours" in found


def test_a_segment_that_is_lost_says_so(viewer, browser, cluster_a, folder):
    make_segment(cluster_a, problem="“x” is not in the archive any more.")
    assert 'title="“x” is not in the archive any more."' in text_of(browser(viewer).get(SEGMENTS))


def test_who_un_adopts_is_told_what_becomes_of_the_archive(cluster_a, folder):
    factories.make_event_stream(cluster_a, stored=12)
    assert any("archive already" in each for each in removal.consequences_of(cluster_a))


# --- and back -------------------------------------------------------------------------------------


def wish(cluster, **changes):
    return {
        "cluster": cluster.pk, "since": "2026-01-01", "until": "2026-01-31",
        "kept_until": str(TODAY + timedelta(days=3)), **changes,
    }  # fmt: skip


def test_an_owner_brings_days_back(
    owner, browser, cluster_a, folder, asked, django_capture_on_commit_callbacks
):
    make_segment(cluster_a)
    client = browser(owner)
    begun = text_of(client.get(f"{RESTORES}add/", {"cluster": cluster_a.pk, "since": "2026-01-05"}))
    assert re.search(r'value="2026-01-05"', begun)
    assert str(TODAY + timedelta(days=7)) in begun
    with django_capture_on_commit_callbacks(execute=True):
        assert client.post(f"{RESTORES}add/", wish(cluster_a)).status_code == 302
    row = EventRestore.objects.get()
    assert (row.cluster, row.asked_by, row.finished_at) == (cluster_a, "owner", None)
    assert ("events.tasks.restore", row.pk) in asked
    entry = AuditEntry.objects.get(verb="restore events")
    assert (entry.actor, entry.cluster_id) == ("owner", cluster_a.pk)
    page = text_of(client.get(f"{RESTORES}{row.pk}/change/"))
    assert "running" in page
    assert f'href="{PAGE}?cluster={cluster_a.pk}&since=2026-01-01T00%3A00%3A00Z' in page
    assert client.post(f"{RESTORES}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not EventRestore.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"until": "2025-12-31"}, "until", "before the first"),
        ({"since": "2026-01-06"}, "since", "holds nothing"),
        ({"kept_until": str(TODAY)}, "kept_until", "after today"),
        ({"kept_until": str(TODAY + timedelta(days=366))}, "kept_until", "within 365 days"),
        ({"since": "soon"}, "since", ""),
    ],
)
def test_what_cannot_be_brought_back_is_refused_at_its_field(
    changes, field, sentence, owner, browser, api, cluster_a, folder
):
    make_segment(cluster_a)
    given = wish(cluster_a, **changes)
    form = browser(owner).post(f"{RESTORES}add/", given).context["adminform"].form
    assert sentence in str(form.errors[field])
    told = api(owner).post(f"{API}/event-restores/", given, format="json")
    assert (told.status_code, set(told.json()["fields"])) == (400, {field})
    assert not EventRestore.objects.exists()


@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_who_is_no_owner_brings_nothing_back_and_lets_nothing_go(
    who, cast, browser, api, cluster_a, folder
):
    make_segment(cluster_a)
    row = EventRestore.objects.create(cluster=cluster_a, since=TODAY, until=TODAY, kept_until=TODAY)
    client = browser(cast[who])
    assert client.get(RESTORES).status_code == 200
    assert client.post(f"{RESTORES}add/", wish(cluster_a)).status_code == 403
    assert client.post(f"{RESTORES}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    told = api(cast[who]).post(f"{API}/event-restores/", wish(cluster_a), format="json")
    assert told.status_code == 400
    assert api(cast[who]).delete(f"{API}/event-restores/{row.pk}/").status_code == 403
    assert EventRestore.objects.count() == 1


def test_the_api_brings_days_back_and_lets_them_go(
    owner, api, cluster_a, cluster_b, folder, asked, django_capture_on_commit_callbacks
):
    for cluster in (cluster_a, cluster_b):
        make_segment(cluster)
    client, address = api(owner), f"{API}/event-restores/"
    given = wish(cluster_a, reason="an audit")
    del given["kept_until"]
    with django_capture_on_commit_callbacks(execute=True):
        made = client.post(address, given, format="json")
    assert made.status_code == 201
    assert made.json()["kept_until"] == str(TODAY + timedelta(days=7))
    key = made.json()["id"]
    assert ("events.tasks.restore", key) in asked
    assert AuditEntry.objects.get(verb="restore events").reason == "an audit"
    assert client.post(address, wish(cluster_b), format="json").status_code == 400
    assert client.delete(f"{address}{key}/").status_code == 204
    assert client.get(address).json()["results"] == []


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"finished_at": timezone.now()}, "done"),
        ({"finished_at": timezone.now(), "kept_until": TODAY}, "over"),
        ({"finished_at": timezone.now(), "problem": "It is away."}, "It is away."),
    ],
)
def test_the_list_says_what_became_of_it(values, word, viewer, browser, cluster_a):
    EventRestore.objects.create(
        **{"cluster": cluster_a, "since": TODAY, "until": TODAY,
           "kept_until": TODAY + timedelta(days=1), **values}
    )  # fmt: skip
    assert word in text_of(browser(viewer).get(RESTORES))


# --- deleting -------------------------------------------------------------------------------------


def old_events(cluster, number=3):
    for _number in range(number):
        factories.make_event(cluster, last_seen=timezone.now() - timedelta(days=100))


def test_one_run_deletes_at_a_time(cluster_a):
    old_events(cluster_a)
    row = EventForgetting.objects.create(pk=1, held_until=timezone.now() + timedelta(minutes=1))
    assert retention.forget_old() == 0
    row.held_until = timezone.now() - timedelta(seconds=1)  # of a worker that was killed
    row.save()
    assert retention.forget_old() == 3
    row.refresh_from_db()
    assert row.held_until is None


def test_a_run_that_fails_keeps_no_other_out(cluster_a, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("events.drivers.days.drop_over", lambda *_args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            retention.forget_old()
    old_events(cluster_a)
    assert retention.forget_old() == 3


def test_what_cannot_be_deleted_in_time_is_left_for_the_next_run(cluster_a, monkeypatch):
    old_events(cluster_a)
    with monkeypatch.context() as patched:
        patched.setattr(retention, "RUN_FOR", timedelta())
        assert retention.forget_old() == 0
    assert retention.forget_old() == 3


@pytest.fixture
def run_out_of_time(monkeypatch):
    def run():
        with monkeypatch.context() as patched:
            patched.setattr(retention, "RUN_FOR", timedelta())
            retention.forget_old()

    return run


def told_behind():
    return Notice.objects.filter(kind="event.retention").count()


def test_deleting_that_never_comes_to_its_end_is_told_once_after_a_day(
    cluster_a, run_out_of_time, browser, admin
):
    run_out_of_time()
    assert (retention.behind_since(), told_behind()) == (None, 0)
    day_ago = timezone.now() - timedelta(hours=25)
    EventForgetting.objects.update(behind_since=day_ago)
    run_out_of_time()
    run_out_of_time()
    assert (retention.behind_since(), told_behind()) == (day_ago, 1)
    assert "not deleted as fast" in text_of(browser(admin).get("/events/eventstream/"))
    told = browser(admin).get("/metrics").content.decode()
    assert "beidou_events_retention_behind_seconds 9" in told  # 90,000 and a few


def test_deleting_that_comes_to_its_end_again_is_no_longer_behind(
    cluster_a, run_out_of_time, browser, admin
):
    EventForgetting.objects.create(pk=1, behind_since=timezone.now() - timedelta(hours=25))
    retention.forget_old()
    assert retention.behind_since() is None
    assert "not deleted as fast" not in text_of(browser(admin).get("/events/eventstream/"))


def test_deleting_that_fails_for_a_day_is_told_too(cluster_a, monkeypatch):
    def refuse(*_args):
        raise StoreAway("It takes nothing.")

    EventForgetting.objects.create(pk=1, behind_since=timezone.now() - timedelta(hours=25))
    monkeypatch.setattr(EmbeddedStore, "forget", refuse)
    with pytest.raises(StoreAway):
        retention.forget_old()
    assert told_behind() == 1


def test_a_deletion_that_is_refused_keeps_no_other_from_being_tried(cluster_a, monkeypatch):
    def refuse(*_args):
        raise StoreAway("It takes nothing.")

    old_events(cluster_a, 2)
    Event.objects.update(cluster_id=cluster_a.pk + 1000)  # of a cluster that is gone
    monkeypatch.setattr(EmbeddedStore, "forget", refuse)
    with pytest.raises(StoreAway, match="takes nothing"):
        retention.forget_old()
    assert not Event.objects.exists()
