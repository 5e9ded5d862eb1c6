"""The cache: content keys, folders that appear complete or not at all, locks between processes."""

import select
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import building, cache_root, content_key, locked

HOLD_LOCK = """
import sys
from pathlib import Path
from lab.paths import locked
with locked("one", folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_cache_may_be_put_elsewhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BEIDOU_LAB_CACHE", "/somewhere")
    assert cache_root() == Path("/somewhere")


def test_the_cache_follows_the_usual_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BEIDOU_LAB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_root() == Path("/caches/beidou-lab")


def test_a_key_depends_on_where_one_part_ends():
    assert content_key("ab", "c") != content_key("a", "bc")


def test_a_built_folder_appears_with_its_content(tmp_path: Path):
    with building(tmp_path / "made") as folder:
        (folder / "file").write_text("content")
        assert not (tmp_path / "made").exists()
    assert (tmp_path / "made" / "file").read_text() == "content"


def test_a_failed_build_leaves_nothing(tmp_path: Path):
    def build() -> None:
        with building(tmp_path / "made") as folder:
            (folder / "file").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        build()
    assert list(tmp_path.iterdir()) == []


def _holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that takes the lock and holds it until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_lock_keeps_another_process_out(tmp_path: Path):
    with _holder(tmp_path) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "held\n"
        with _holder(tmp_path) as second:
            assert second.stdout is not None
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=0.5)
            assert select.select([second.stdout], [], [], 0)[0] == []
            first.stdin.close()
            assert second.stdout.readline() == "held\n"


def test_a_lock_is_free_after_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="broken"), locked("one", folder=tmp_path):
        raise ValueError("broken")
    with locked("one", folder=tmp_path):
        pass
