"""The script that takes snapshots of etcd, with programs of a made-up etcd."""

import hashlib
import json
import os

import pytest

from operations.kinds.upgrade_cluster.params import UpgradeClusterParams
from tests.operations.ansible.host_code import leftovers, load_file, records, removal

CONTENT = b"keys and values"
ETCDCTL = """\
#!/bin/sh
for last; do :; done
printf '%s' 'keys and values' > "$last"
"""
STATUS = '{"hash": 1, "revision": 42, "totalKey": 300, "totalSize": 15}'


@pytest.fixture
def script():
    return load_file("roles/etcd_snapshot/files/etcd_snapshot.py")


@pytest.fixture
def programs(tmp_path, script, monkeypatch):
    """``programs(etcdutl="…")`` writes them; etcd's container is a folder."""
    folder = tmp_path / "root" / "usr" / "local" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setattr(script, "etcd_root", lambda: str(tmp_path / "root"))
    monkeypatch.setattr(script, "STATE_FOLDER", str(tmp_path / "state"))

    def write(etcdctl=ETCDCTL, etcdutl=f"#!/bin/sh\nprintf '%s' '{STATUS}'\n"):
        for name, text in (("etcdctl", etcdctl), ("etcdutl", etcdutl)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    write()
    return write


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


def test_a_snapshot_is_kept_with_its_checksum_for_root_alone(script, programs, folder):
    answer = script.take(str(folder), 3)
    assert answer["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (answer["revision"], answer["total_keys"], answer["removed"]) == (42, 300, [])
    assert os.stat(answer["path"]).st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == [os.path.basename(answer["path"]), f"{os.path.basename(answer['path'])}.sha256"]
    assert answer["sha256"] in (folder / kept[1]).read_text()


def test_one_that_etcdutl_cannot_read_is_none(script, programs, folder):
    programs(etcdutl="#!/bin/sh\necho 'snapshot file integrity check failed' >&2\nexit 1\n")
    with pytest.raises(script.Problem, match="etcdutl failed: snapshot file integrity"):
        script.take(str(folder), 3)
    assert not list(folder.glob("beidou-etcd-*.db"))


@pytest.mark.parametrize("said", ["no JSON", "[]", '{"totalKey": 0}'])
def test_one_without_keys_is_none(script, programs, folder, said):
    programs(etcdutl=f"#!/bin/sh\nprintf '%s' '{said}'\n")
    with pytest.raises(script.Problem, match="etcdutl"):
        script.take(str(folder), 3)


def test_an_etcd_that_does_not_answer_is_told_in_its_words(script, programs, folder, capsys):
    programs(etcdctl="#!/bin/sh\necho 'context deadline exceeded' >&2\nexit 1\n")
    assert script.main(str(folder), "3") == 1
    assert capsys.readouterr().err == "etcdctl failed: context deadline exceeded\n"


def test_the_newest_are_kept_and_what_others_keep_there_is_left_alone(script, programs, folder):
    folder.mkdir()
    for day in (1, 2, 3):
        (folder / f"beidou-etcd-2026010{day}T000000Z.db").write_text("old")
        (folder / f"beidou-etcd-2026010{day}T000000Z.db.sha256").write_text("old")
    (folder / "mine.db").write_text("mine")
    answer = script.take(str(folder), 2)
    assert len(answer["removed"]) == 2
    left = sorted(path.name for path in folder.glob("*.db"))
    assert left == ["beidou-etcd-20260103T000000Z.db", os.path.basename(answer["path"]), "mine.db"]
    assert len(list(folder.glob("*.sha256"))) == 2


def test_what_an_interrupted_one_left_is_removed(script, programs, folder):
    folder.mkdir()
    (folder / ".beidou-etcd-20260101T000000Z.db.part").write_text("half")
    script.take(str(folder), 3)
    assert not list(folder.glob(".beidou-etcd-*"))


# --- taken away with the node ---------------------------------------------------------------------


def reset(tmp_path):
    return records.Records(str(tmp_path / "state")).undo()


def test_a_reset_takes_snapshots_away_with_the_folders_made_for_them(script, programs, tmp_path):
    script.take(f"{tmp_path}/srv/etcd", 3)
    reset(tmp_path)
    assert not (tmp_path / "srv").exists()


def test_a_reset_leaves_what_others_keep_in_the_folder(script, programs, folder, tmp_path):
    """Another host's may be among them, when the folder is shared."""
    folder.mkdir()
    others = ["beidou-etcd-20260101T000000Z.db", "mine.db"]
    for name in others:
        (folder / name).write_text("theirs")
    script.take(str(folder), 3)
    reset(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == others


def test_a_reset_takes_half_a_snapshot_away(script, programs, folder, tmp_path):
    programs(etcdctl='#!/bin/sh\nfor last; do :; done\necho half > "$last.part"\nexit 1\n')
    with pytest.raises(script.Problem):
        script.take(str(folder), 3)
    assert list(folder.iterdir()) != []
    reset(tmp_path)
    assert not folder.exists()


def test_the_folder_that_is_proposed_is_known_to_a_reset():
    proposed = UpgradeClusterParams.model_fields["snapshot_folder"].default
    assert proposed == leftovers.SNAPSHOTS
    assert proposed in removal.REMOVED


def test_the_answer_is_the_last_line(script, programs, folder, capsys):
    assert script.main(str(folder), "3") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["total_keys"] == 300


# --- finding etcd --------------------------------------------------------------------------------


def test_etcd_is_found_among_the_processes(tmp_path, monkeypatch):
    script = load_file("roles/etcd_snapshot/files/etcd_snapshot.py")
    for pid, line in ((3, b"/bin/sh\0etcd\0"), (9, b"/usr/local/bin/etcd\0--name=a\0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(line)
    (tmp_path / "meminfo").write_text("")
    assert script.etcd_root(str(tmp_path)) == f"{tmp_path}/9/root"


def test_a_host_without_etcd_says_so(tmp_path):
    script = load_file("roles/etcd_snapshot/files/etcd_snapshot.py")
    with pytest.raises(script.Problem, match="No etcd runs"):
        script.etcd_root(str(tmp_path))


def test_a_program_that_is_nowhere_is_named(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(script.Problem, match="There is no etcdutl"):
        script.program("etcdutl", str(tmp_path))
