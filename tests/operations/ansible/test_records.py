import os

import pytest

from tests.operations.ansible.host_code import records


@pytest.fixture
def kept(tmp_path):
    return records.Records(str(tmp_path / "state"))


def place(kept, path, text):
    records.make_parents(str(path), kept)
    kept.note(str(path))
    records.write_atomically(str(path), text.encode(), 0o644)


def test_a_new_file_and_the_folders_made_for_it_are_removed(kept, tmp_path):
    place(kept, tmp_path / "etc" / "unit.d" / "a.conf", "ours")
    kept.undo()
    assert not (tmp_path / "etc").exists()


def test_a_file_from_before_comes_back_with_its_rights(kept, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("theirs")
    file.chmod(0o600)
    place(kept, file, "ours")
    assert file.read_text() == "ours"
    kept.undo()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("theirs", 0o600)


def test_a_second_change_does_not_become_the_original(kept, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("theirs")
    place(kept, file, "ours")
    place(kept, file, "ours again")
    kept.undo()
    assert file.read_text() == "theirs"


def test_a_folder_in_which_others_keep_files_stays(kept, tmp_path):
    place(kept, tmp_path / "certs.d" / "ours", "x")
    (tmp_path / "certs.d" / "theirs").touch()
    kept.undo()
    assert [path.name for path in (tmp_path / "certs.d").iterdir()] == ["theirs"]


def test_undoing_without_records_does_nothing(kept):
    assert kept.undo() == []


def test_the_first_value_of_a_setting_is_the_one_that_is_kept(kept):
    kept.note_setting("net.ipv4.ip_forward", "0")
    kept.note_setting("net.ipv4.ip_forward", "1")
    assert kept.settings() == {"net.ipv4.ip_forward": "0"}


def test_a_secret_is_never_readable_by_others_while_it_is_written(tmp_path, monkeypatch):
    modes = []
    replace = os.replace

    def look(source, target):
        modes.append(os.stat(source).st_mode & 0o777)
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    records.write_atomically(str(tmp_path / "join.yaml"), b"token", 0o600)
    assert modes == [0o600]


def test_what_an_interrupted_write_left_is_overwritten(tmp_path):
    (tmp_path / "a.beidou-part").write_text("half")
    records.write_atomically(str(tmp_path / "a"), b"whole", 0o644)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "whole")]
