"""What a run does not see: files of the portal, and the settings in its own environment."""

import os
import subprocess
from pathlib import Path

import pytest

from beidou.base.errors import PermanentError
from operations.drivers import ansible, processes


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder to be hidden with the run's own in it, a file to be hidden, and an own folder."""
    for name in ("data/runs/own", "sockets/own", "sockets/other"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("data/key", "data/runs/own/mine", "settings"):
        (tmp_path / name).write_text(name)
    return tmp_path


def inside(folders: Path, script: str, cwd: str = "data/runs/own") -> str:
    prefix = processes.hiding(
        [folders / name for name in ("data", "settings", "sockets", "none")],
        run=folders / "data/runs/own", own=folders / "sockets/own",
    )  # fmt: skip
    assert prefix
    done = subprocess.run(
        [*prefix, "sh", "-c", f"cd {folders}\n{script}"], cwd=folders / cwd,
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return done.stdout


def test_only_its_own_folder_is_seen(folders: Path) -> None:
    said = inside(folders, "ls data data/runs sockets; cat data/runs/own/mine settings; echo end")
    assert said.split() == [
        "data:", "runs", "data/runs:", "own", "sockets:", "own", "data/runs/own/mineend",
    ]  # fmt: skip


def test_what_it_writes_there_stays(folders: Path) -> None:
    inside(folders, "echo x > data/runs/own/new; echo x > data/new")
    assert (folders / "data/runs/own/new").read_text() == "x\n"
    assert not (folders / "data/new").exists()


def test_where_it_was_begun_leads_nowhere(folders: Path) -> None:
    command = "cat $OLDPWD/../../key; cd $OLDPWD; cat ../../key; cat /proc/self/cwd/../../key"
    assert "data/key" not in inside(folders, command)


@pytest.mark.parametrize(
    "attempt",
    [
        "umount data",
        "umount -l data",
        "unshare --user --map-root-user --mount umount data",
        "mount --bind / sockets/own",
        "nsenter --target 1 --mount cat data/key",
        "nsenter --mount=/proc/$PPID/ns/mnt cat data/key",
    ],
)
def test_nothing_takes_the_covers_away(folders: Path, attempt: str) -> None:
    said = inside(folders, f"{attempt}; cat data/key; cat sockets/own{folders}/data/key; echo end")
    assert said == "end\n"


def test_a_folder_that_lies_elsewhere_is_seen_too(folders: Path) -> None:
    (folders / "run").mkdir()
    (folders / "run/mine").write_text("mine")
    prefix = processes.hiding([folders / "data"], run=folders / "run", own=folders / "run")
    done = subprocess.run(
        [*prefix, "sh", "-c", "cat mine ../data/key"], cwd=folders / "run", capture_output=True,
        text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.stdout == "mine"


def test_a_folder_that_somebody_else_made_is_not_used(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert processes.private_folder().stat().st_mode & 0o777 == 0o700
    processes.private_folder().chmod(0o755)
    with pytest.raises(PermanentError, match="not the portal's alone"):
        processes.private_folder()


def test_settings_and_keys_of_the_worker_are_not_in_the_environment_of_a_playbook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BEIDOU_ENCRYPTION_KEYS", "secret")
    monkeypatch.setenv("LANG", "xx")
    prepared = {**os.environ, "LANG": "C.UTF-8", "RUNNER_OMIT_EVENTS": "False"}
    left = ansible._without_ours(prepared, {"LANG": "C.UTF-8"})
    assert left == {"LANG": "C.UTF-8", "RUNNER_OMIT_EVENTS": "False"}
