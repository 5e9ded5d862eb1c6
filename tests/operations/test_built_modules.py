"""Where runs share what ansible builds, and when they do not."""

import os
import time
from pathlib import Path

import pytest

from operations.drivers import built_modules


@pytest.fixture
def ansible(tmp_path: Path) -> Path:
    """A folder as ``operations/ansible``, with one module."""
    (tmp_path / "ansible/library").mkdir(parents=True)
    (tmp_path / "ansible/library/module.py").write_text("x = 1")
    return tmp_path / "ansible"


def folder(ansible: Path) -> Path:
    return Path(built_modules.variables(ansible, ansible.parent)["BEIDOU_BUILT_MODULES"])


def test_runs_with_the_same_sources_share_a_folder(ansible):
    assert folder(ansible) == folder(ansible)


def test_changed_sources_are_built_anew(ansible):
    before = folder(ansible)
    (ansible / "library/module.py").write_text("x = 2")
    assert folder(ansible) != before


def test_what_was_built_in_between_is_not_met_when_a_change_is_taken_back(ansible):
    source = ansible / "library/module.py"
    before = folder(ansible)
    source.write_text("x = 2")
    source.write_text("x = 1")
    os.utime(source, ns=(0, time.time_ns()))
    assert folder(ansible) != before


def test_another_boot_builds_anew(ansible, tmp_path, monkeypatch):
    before = folder(ansible)
    boot = tmp_path / "boot"
    boot.write_text("another")
    monkeypatch.setattr(built_modules, "_BOOT", boot)
    assert folder(ansible) != before


def test_the_folder_is_its_owners_alone_whatever_the_umask(ansible):
    umask = os.umask(0o002)
    try:
        kept = folder(ansible)
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in (kept, kept.parent)} == {0o700}


@pytest.mark.parametrize("which", ["kept", "parent"])
def test_a_folder_that_others_may_write_to_is_not_used(ansible, which):
    kept = folder(ansible)
    (kept if which == "kept" else kept.parent).chmod(0o770)
    assert built_modules.variables(ansible, ansible.parent) == {}


def test_a_link_to_a_folder_is_not_used(ansible, tmp_path):
    kept = folder(ansible)
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    assert built_modules.variables(ansible, ansible.parent) == {}


def test_a_file_in_the_way_is_said_and_hinders_nothing(ansible, caplog):
    (ansible.parent / "built-modules").touch()
    assert built_modules.variables(ansible, ansible.parent) == {}
    assert "built_modules_not_kept" in caplog.text


def test_what_no_run_has_used_for_a_week_is_removed(ansible):
    kept = folder(ansible)
    for name, days in (("old", 8), ("recent", 6)):
        other = kept.parent / name
        other.mkdir()
        (other / "module").touch()
        then = time.time() - days * 24 * 3600
        os.utime(other, (then, then))
    folder(ansible)
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, "recent"}
