"""From one event store into another."""

import pytest
from django.core.management import CommandError, call_command

from beidou.base import config
from events.drivers.errors import StoreAway
from events.management.commands import move_events
from events.models import Event, EventMove
from events.services import moving
from events.services.moving import Side
from events.services.stores import chosen
from events.services.stores.embedded import EmbeddedStore
from tests.events.conftest import STORES
from tests.events.test_stores import made

pytestmark = pytest.mark.django_db


class Kept(EmbeddedStore):
    """Takes what it is given; after ``most`` calls it is away."""

    def __init__(self, most=1000):
        self.records, self.most = {}, most

    def write(self, keeper, records, labels=()):
        if not self.most:
            raise StoreAway("The event store does not answer.")
        self.most -= 1
        self.records |= {(keeper.uid, record.uid): record for record in records}
        return []


@pytest.fixture
def source(cluster_a, monkeypatch):
    monkeypatch.setattr(moving, "AT_ONCE", 2)
    store = chosen.of(None)
    keeper = moving.Keeper.of(cluster_a)
    store.write(keeper, [made(f"e{number}") for number in range(5)])
    return Side(store, "database")


def test_everything_is_moved_as_it_was(source, cluster_a):
    target = Kept()
    *_before, last = moving.move(source, Side(target, "other"), [cluster_a])
    assert (last.moved, last.refused, last.is_done) == (5, 0, True)
    assert target.records[cluster_a.uid, "uid-e1"] == made("e1")
    assert Event.objects.count() == 5


def test_stopped_in_the_middle_it_goes_on_where_it_was(source, cluster_a):
    target = Kept(most=2)
    with pytest.raises(StoreAway):
        list(moving.move(source, Side(target, "other"), [cluster_a]))
    assert EventMove.objects.get().moved == 4
    target.most = 1
    *_before, last = moving.move(source, Side(target, "other"), [cluster_a])
    assert (last.moved, last.is_done) == (5, True)
    assert len(target.records) == 5


def test_done_again_it_moves_what_came_meanwhile(source, cluster_a):
    target = Kept()
    list(moving.move(source, Side(target, "other"), [cluster_a]))
    keeper = moving.Keeper.of(cluster_a)
    source.store.write(keeper, [made("new")])
    list(moving.move(source, Side(target, "other"), [cluster_a]))
    assert len(target.records) == 6


@pytest.mark.parametrize("store", STORES[1:], indirect=True)
def test_from_the_database_to_a_server_and_back(store, source, cluster_a, capsys):
    call_command("move_events", "database", "configured")
    store.settle()
    assert store.uids() == [f"e{number}" for number in range(5)]
    assert {event.record() for event in store.all()} == {made(f"e{n}") for n in range(5)}
    assert "cluster-a: 5 events done" in capsys.readouterr().out
    Event.objects.all().delete()
    call_command("move_events", "configured", "database", "--cluster", "cluster-a")
    assert Event.objects.count() == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["database", "database"], "same event store"),
        (["database", "configured"], "same event store"),
        (["database", "postgres://x"], "must be `database` or look like"),
        (["database", "elasticsearch+http://127.0.0.1:1", "--cluster", "nope"], "no cluster nope"),
        (["elasticsearch+http://127.0.0.1:1/x", "database"], "does not answer.* Run the same"),
    ],
)
def test_what_cannot_be_moved_is_said(arguments, sentence, cluster_a):
    with pytest.raises(CommandError, match=sentence):
        call_command("move_events", *arguments)


def test_the_key_of_the_configured_server_is_not_sent_to_one_with_a_user_of_its_own(settings):
    settings.EVENT_STORE_API_KEY = "key of the other"
    with_user = move_events._side("elasticsearch+http://me:secret@127.0.0.1:1/x")
    without = move_events._side("elasticsearch+http://127.0.0.1:1/x")
    assert with_user.store.address.api_key == ""
    assert without.store.address.api_key == "key of the other"


def test_no_password_is_kept_of_an_address(source, cluster_a):
    url = "elasticsearch+http://me:secret@127.0.0.1:1/x"
    with pytest.raises(CommandError):
        call_command("move_events", "database", url)
    row = EventMove.objects.get()
    assert "secret" not in row.target
    assert config.parse_event_store_url(url).password == "secret"  # noqa: S105
