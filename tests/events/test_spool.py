"""The spool: what is in it stays in it, whatever happens to the process and the disk."""

import errno
import os
import shutil

import pytest

from events.collector.spool import Frame, Room, Spool, SpoolFull
from events.collector.spools import Home
from tests.events.made import kube, modern

MIB = 1 << 20


def frame(number, events=2):
    return Frame(
        position=str(number),
        received_at=1000.0 + number,
        events=[kube(modern(f"e{number}.{each}")) for each in range(events)],
    )


@pytest.fixture
def room():
    return Room(64 * MIB)


@pytest.fixture
def opened(tmp_path, room):
    """Opens the spool, again and again, as if the process had been killed between."""
    spools = []

    def open_spool(**options):
        spools.append(Spool(tmp_path / "uid", room, **options))
        return spools[-1]

    yield open_spool
    for spool in spools:
        spool.close()


def positions(spool, most=1000):
    return [each.position for each in spool.read(most).frames]


def last_segment(tmp_path):
    return sorted((tmp_path / "uid").glob("*.segment"))[-1]


def test_what_was_appended_is_read_in_order_with_all_its_events(opened):
    spool = opened()
    frames = [frame(number) for number in range(3)]
    for each in frames:
        spool.append(each)
    assert spool.read(1000).frames == frames


def test_a_read_gives_no_more_than_was_asked_but_at_least_one_frame(opened):
    spool = opened()
    for number in range(3):
        spool.append(frame(number, events=5))
    assert positions(spool, most=1) == ["0"]
    assert positions(spool, most=6) == ["0", "1"]


def test_what_is_not_acknowledged_is_read_again(opened):
    spool = opened()
    spool.append(frame(1))
    assert positions(spool) == positions(spool) == ["1"]
    assert positions(opened()) == ["1"]


def test_what_is_acknowledged_is_not_read_again(opened):
    spool = opened()
    spool.append(frame(1))
    spool.append(frame(2))
    spool.acknowledge(spool.read(1))
    assert positions(spool) == ["2"]
    assert positions(opened()) == ["2"]


def test_how_much_waits_is_known_at_once_and_after_a_restart(opened):
    spool = opened()
    for number in range(4):
        spool.append(frame(number))
    spool.acknowledge(spool.read(2))
    for each in (spool, opened()):
        assert (each.standing().events, each.standing().oldest_at) == (6, 1001.0)
        each.acknowledge(each.read(1000))
        now = each.standing()
        assert (now.events, now.bytes, now.oldest_at) == (0, 0, None)


def test_the_last_place_is_known_after_a_restart_also_without_a_segment(opened, tmp_path):
    spool = opened()
    spool.append(frame(7))
    assert opened().reached.position == "7"
    spool.acknowledge(spool.read(10))
    last_segment(tmp_path).unlink()
    again = opened()
    assert (again.reached.position, again.acknowledged.position) == ("7", "7")
    again.append(frame(8))
    assert positions(again) == ["8"]


def test_a_part_of_a_list_moves_no_place(opened):
    spool = opened()
    spool.append(frame(7))
    spool.append(Frame(position="", received_at=2000.0, events=[kube(modern())]))
    spool.acknowledge(spool.read(10))
    assert spool.reached.position == spool.acknowledged.position == "7"


def test_segments_are_deleted_when_all_of_them_is_acknowledged(opened, tmp_path):
    spool = opened(segment_bytes=1)
    for number in range(5):
        spool.append(frame(number))
    assert len(list((tmp_path / "uid").glob("*.segment"))) == 5
    spool.acknowledge(spool.read(6))
    assert len(list((tmp_path / "uid").glob("*.segment"))) == 3
    assert positions(spool) == ["3", "4"]


@pytest.mark.parametrize("missing", [1, 10, 30])
def test_half_a_frame_at_the_end_is_cut_off_with_its_position(opened, tmp_path, missing):
    spool = opened()
    spool.append(frame(1))
    spool.append(frame(2))
    path = last_segment(tmp_path)
    os.truncate(path, path.stat().st_size - missing)
    again = opened()
    assert again.reached.position == "1"
    again.append(frame(3))
    assert positions(again) == ["1", "3"]
    assert not again.must_list


def spoil(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("segment_bytes", [1, MIB])
def test_what_is_broken_in_the_middle_hides_nothing_that_follows(opened, tmp_path, segment_bytes):
    spool = opened(segment_bytes=segment_bytes)
    for number in range(3):
        spool.append(frame(number))
    spoil(sorted((tmp_path / "uid").glob("*.segment"))[0], 40)
    assert positions(spool) == ["1", "2"]
    spool.acknowledge(spool.read(1000))
    assert (spool.events_waiting, spool.bytes_waiting) == (0, 0)


def test_positions_behind_what_was_lost_prove_nothing_until_all_was_listed(opened, tmp_path):
    spool = opened()
    for number in range(3):
        spool.append(frame(number))
    spool.acknowledge(spool.read(1))
    spool.append(frame(3))
    path = last_segment(tmp_path)
    spoil(path, path.stat().st_size - 1)
    spool.append(frame(4))
    spool.acknowledge(spool.read(1000))
    for each in (spool, opened()):
        assert each.must_list
        assert each.acknowledged.position == "0"
    spool.append(frame(5))
    spool.listed()
    spool.acknowledge(spool.read(1000))
    again = opened()
    assert (again.must_list, again.acknowledged.position) == (False, "5")


def test_one_damage_asks_for_one_list_however_often_it_is_read(opened, tmp_path):
    spool = opened(segment_bytes=1)
    for number in range(3):
        spool.append(frame(number))
    spoil(sorted((tmp_path / "uid").glob("*.segment"))[0], 40)
    spool.read(1000)
    spool.listed()
    spool.read(1000)
    assert not spool.must_list


def test_a_broken_segment_that_is_written_to_is_left_alone(opened, tmp_path):
    spool = opened()
    spool.append(frame(1))
    spoil(last_segment(tmp_path), 5)
    assert positions(spool) == []
    spool.append(frame(2))
    assert positions(spool) == ["2"]
    assert spool.must_list


def test_a_segment_that_is_shorter_than_what_was_acknowledged_takes_new_frames(opened, tmp_path):
    """As after a power failure, which takes what was not synced."""
    spool = opened()
    for number in range(3):
        spool.append(frame(number))
    spool.acknowledge(spool.read(1000))
    os.truncate(last_segment(tmp_path), 10)
    again = opened()
    assert again.reached.position == "2"
    again.append(frame(3))
    assert positions(again) == ["3"]


def test_a_disk_that_does_not_take_the_note_frees_what_is_stored_all_the_same(opened, tmp_path):
    spool = opened(segment_bytes=1)
    for number in range(3):
        spool.append(frame(number))
    (tmp_path / "uid" / "acknowledged.part").mkdir()  # nothing can be written there
    spool.acknowledge(spool.read(3))
    assert len(list((tmp_path / "uid").glob("*.segment"))) == 2
    assert positions(spool) == ["2"]


def test_a_spool_whose_files_were_deleted_begins_anew_and_asks_for_a_list(opened, tmp_path):
    spool = opened()
    spool.append(frame(1))
    shutil.rmtree(tmp_path / "uid")
    assert positions(spool) == []
    spool.append(frame(2))
    assert positions(spool) == ["2"]
    assert spool.must_list


def test_a_portion_of_large_events_is_a_small_one(opened):
    spool = opened()
    large = kube(modern(note="x" * 3 * MIB))
    for number in range(5):
        spool.append(Frame(position=str(number), received_at=1.0, events=[large]))
    assert len(spool.read(1000).frames) == 3


def test_a_note_of_what_is_acknowledged_that_is_broken_ships_all_again(opened, tmp_path):
    spool = opened()
    spool.append(frame(1))
    spool.acknowledge(spool.read(10))
    (tmp_path / "uid" / "acknowledged").write_text("{")
    assert positions(opened()) == ["1"]


def test_a_full_spool_refuses_with_a_sentence_and_takes_again_when_something_was_shipped(opened):
    spool = opened()
    spool.append(frame(1))
    spool._room.most_bytes = spool.bytes_waiting + 10
    with pytest.raises(SpoolFull, match="The spool of events is full"):
        spool.append(frame(2))
    assert positions(spool) == ["1"]
    spool.acknowledge(spool.read(10))
    spool.append(frame(2))
    assert positions(spool) == ["2"]


def test_all_spools_share_the_room_and_a_storm_in_one_leaves_the_others_their_part(tmp_path):
    room = Room(10 * MIB)
    one, other = Spool(tmp_path / "a", room), Spool(tmp_path / "b", room)
    one.append(frame(1))
    one.append(frame(2))
    room.most_bytes = room.used_bytes + 100
    with pytest.raises(SpoolFull):
        one.append(frame(3))
    other.append(frame(1))
    with pytest.raises(SpoolFull):
        other.append(frame(2))
    one.close()
    other.close()
    assert (room.used_bytes, room.spools) == (0, 0)


def test_a_full_disk_leaves_the_spool_as_it_was(opened, tmp_path):
    """A write that takes a part only: the file system of the test is not ours to fill."""
    spool = opened()
    spool.append(frame(1))
    size = last_segment(tmp_path).stat().st_size

    class FullDisk:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    whole, spool._writer = spool._writer, FullDisk(spool._writer)
    with pytest.raises(OSError, match="No space left"):
        spool.append(frame(2))
    spool._writer = whole
    assert last_segment(tmp_path).stat().st_size == size
    spool.append(frame(3))
    assert positions(spool) == ["1", "3"]
    assert spool.events_waiting == 4


def test_a_removed_spool_leaves_nothing(opened, tmp_path, room):
    spool = opened()
    spool.append(frame(1))
    spool.remove()
    assert not (tmp_path / "uid").exists()
    assert room.used_bytes == 0


def test_each_process_has_a_home_of_its_own_and_takes_what_a_dead_one_left(tmp_path, room):
    one = Home.take(tmp_path)
    other = Home.take(tmp_path)
    assert one.folder != other.folder
    other.open("some-uid", room).close()
    assert Home.take_left(tmp_path) is None
    other.close()
    left = Home.take_left(tmp_path)
    assert left.names() == ["some-uid"]
    left.close()
    one.close()


@pytest.mark.parametrize("uid", ["", ".", "..", "../x", "a/b", "x" * 65])
def test_a_uid_that_would_lead_elsewhere_names_no_spool(tmp_path, room, uid):
    home = Home.take(tmp_path)
    with pytest.raises(ValueError, match="names no folder"):
        home.open(uid, room)
    home.close()
