"""Events as files for a log agent."""

import json
import os
from datetime import date

import pytest
from django.core.management import CommandError, call_command

from beidou.base import config
from events.drivers.errors import StoreAway
from events.services.stores import chosen, files
from events.services.stores.base import Keeper, Limit, Limits
from events.services.stores.elastic import ElasticStore
from events.services.stores.files import FilesStore
from tests.events.test_stores import made, of_day

KEEPER = Keeper(1, "uid-of-cluster", "prod")


@pytest.fixture
def reader():
    address = config.parse_event_store_url("elasticsearch+http://127.0.0.1:1/prefix")
    return ElasticStore(address, owner="me")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "events"


@pytest.fixture
def store(reader, folder):
    return FilesStore(reader, folder, 1024 * files.FILE_BYTES)


def lines(folder):
    text = "".join(path.read_text() for path in sorted(folder.glob(files.NAMES)))
    return [json.loads(line) for line in text.splitlines()]


def test_an_event_is_one_line_in_the_elastic_common_schema(store, folder):
    assert store.write(KEEPER, [made()]) == []
    (line,) = lines(folder)
    assert line["@timestamp"] == "2026-11-20T08:05:00.000000Z"
    assert line["event"]["reason"] == "BackOff"
    assert line["orchestrator"]["cluster"] == {"id": "uid-of-cluster", "name": "prod"}
    assert line["orchestrator"]["resource"] == {
        "type": "Pod",
        "name": "web-6f9c-x2",
        "id": "uid-of-pod",
    }
    assert line["kubernetes"] == {
        "event": {"type": "Warning", "count": 3},
        "node": {"name": "n1"},
    }
    assert json.loads(line["event"]["original"])["metadata"]["uid"] == "uid-web.1"


def test_a_line_says_which_teams_see_it(store, folder):
    store.write(KEEPER, [made(), made("other", regarding__namespace="pay")], {"shop": [3, 12]})
    first, other = (line["beidou"] for line in lines(folder))
    assert first["teams"] == ["3", "12"]
    assert "teams" not in other


def test_a_line_says_where_it_belongs_so_that_sending_it_twice_stores_it_once(store, folder):
    store.write(KEEPER, [made(version=1)])
    store.write(KEEPER, [made(version=2), made("other")])
    first, second, other = (line["beidou"] for line in lines(folder))
    assert first["index"] == second["index"] == "prefix-events-1-2026.11.20"
    assert first["id"] == second["id"] != other["id"]


def test_days_of_mad_clocks_share_an_index(store, folder):
    store.write(KEEPER, [of_day(date(1999, 1, 1)), of_day(date(2101, 1, 1), "b")])
    assert {line["beidou"]["index"] for line in lines(folder)} == {"prefix-events-1-other"}


def test_a_file_that_is_full_is_followed_by_another(store, folder, monkeypatch):
    monkeypatch.setattr(files, "FILE_BYTES", 10)
    for number in range(3):
        store.write(KEEPER, [made(f"e{number}")])
    assert len(list(folder.glob(files.NAMES))) == 3
    assert len(lines(folder)) == 3


def test_beyond_its_room_the_oldest_file_goes_and_the_log_says_so(
    reader, folder, monkeypatch, caplog
):
    monkeypatch.setattr(files, "FILE_BYTES", 10)
    folder.mkdir()
    old = folder / "events-20200101T000000Z-host-1-0.ndjson"
    old.write_bytes(b"x" * 5000)
    os.utime(old, (1, 1))
    (folder / "of somebody else.ndjson").write_bytes(b"x" * 5000)
    store = FilesStore(reader, folder, 4000)
    store.write(KEEPER, [made()])
    assert not old.exists()
    assert (folder / "of somebody else.ndjson").exists()
    assert "event_file_removed" in caplog.text
    assert old.name in caplog.text


def test_where_the_agent_removes_files_a_full_folder_holds_up_until_it_has(
    reader, folder, monkeypatch
):
    monkeypatch.setattr(files, "FILE_BYTES", 4000)
    folder.mkdir()
    old = folder / "events-20200101T000000Z-host-1-0.ndjson"
    old.write_bytes(b"x" * 5000)
    store = FilesStore(reader, folder, 8 << 10, waits=True)
    with pytest.raises(StoreAway, match="folder of event files is full"):
        store.write(KEEPER, [made()])
    assert list(folder.iterdir()) == [old]
    old.unlink()
    assert store.write(KEEPER, [made()]) == []


def test_a_file_that_the_agent_has_removed_is_followed_by_another(reader, folder):
    store = FilesStore(reader, folder, 1024 * files.FILE_BYTES, waits=True)
    store.write(KEEPER, [made("a")])
    (file,) = folder.iterdir()
    file.unlink()
    store.write(KEEPER, [made("b")])
    assert [line["event"]["id"] for line in lines(folder)] == ["uid-b"]


@pytest.mark.django_db
def test_whether_it_waits_is_a_setting(settings, folder):
    settings.EVENT_STORE = config.parse_event_store_url("elasticsearch+http://127.0.0.1:1/z")
    settings.EVENT_FILES, settings.EVENT_FILES_BYTES = folder, 1
    settings.EVENT_FILES_WAIT = True
    folder.mkdir()
    (folder / "events-1.ndjson").touch()
    with pytest.raises(StoreAway, match="is full"):
        chosen.store().write(KEEPER, [made()])


def test_a_folder_that_takes_nothing_holds_up_with_a_sentence(reader, tmp_path):
    (tmp_path / "file").touch()
    store = FilesStore(reader, tmp_path / "file", 1024 * files.FILE_BYTES)
    with pytest.raises(StoreAway, match="folder of event files takes nothing .*"):
        store.write(KEEPER, [made()])
    (tmp_path / "file").unlink()
    assert store.write(KEEPER, [made()]) == []


@pytest.mark.django_db
def test_the_template_is_printed_for_those_who_let_an_agent_write(settings, folder, capsys):
    settings.EVENT_STORE = config.parse_event_store_url("elasticsearch+http://127.0.0.1:1/y")
    with pytest.raises(CommandError, match="Only with BEIDOU_EVENT_FILES"):
        call_command("event_index_template")
    settings.EVENT_FILES = folder
    call_command("event_index_template")
    assert json.loads(capsys.readouterr().out)["index_patterns"] == ["y-events-1-*"]


@pytest.mark.django_db
def test_what_is_chosen_writes_files_and_reads_from_the_server(settings, folder):
    settings.EVENT_STORE = config.parse_event_store_url("elasticsearch+http://127.0.0.1:1/x")
    settings.EVENT_FILES = folder
    store = chosen.store()
    assert store.write(KEEPER, [made()]) == []
    assert len(lines(folder)) == 1
    with pytest.raises(StoreAway):
        store.forget(Limits(Limit(date(2026, 1, 1), date(2026, 1, 1))))
    with pytest.raises(StoreAway):
        store.remove(KEEPER, [made()])
    with pytest.raises(StoreAway):
        store.forget_empty_days(date(2026, 1, 1))
    with pytest.raises(StoreAway):
        store.refresh()
