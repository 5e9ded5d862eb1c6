"""Content of sources: what is read is what is kept and written, and nothing leads out of it."""

import os

import pytest

from beidou.base.errors import BeidouError, InvalidInput, PermanentError
from operations.drivers import trees
from operations.drivers.trees import FILE, LINK, PROGRAM, Entry


def read(folder, size_max=1 << 20):
    return trees.read_folder(folder, folders=[folder.parent], size_max=size_max)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "site"
    (place / "roles/x/files").mkdir(parents=True)
    (place / "greet.yml").write_text("[]")
    (place / "roles/x/files/run").write_bytes(b"\x00\xff")
    (place / "roles/x/files/run").chmod(0o755)
    (place / "link.yml").symlink_to("greet.yml")
    (place / ".git").mkdir()
    (place / ".git/config").write_text("x")
    return place


def test_a_folder_is_read_kept_and_written_as_it_is(folder, tmp_path):
    tree = read(folder)
    assert [(each.path, each.kind) for each in tree.entries] == [
        ("greet.yml", FILE), ("link.yml", LINK), ("roles/x/files/run", PROGRAM),
    ]  # fmt: skip
    again = trees.unpack(trees.pack(tree.entries))
    assert again == tree.entries
    trees.write(again, tmp_path / "out")
    assert (tmp_path / "out/roles/x/files/run").read_bytes() == b"\x00\xff"
    assert os.access(tmp_path / "out/roles/x/files/run", os.X_OK)
    assert os.readlink(tmp_path / "out/link.yml") == "greet.yml"
    assert read(tmp_path / "out").digest == tree.digest


@pytest.mark.parametrize("change", ["content", "mode", "name", "link"])
def test_whatever_changes_the_digest_changes(folder, change):
    before = read(folder).digest
    if change == "content":
        (folder / "greet.yml").write_text("[1]")
    elif change == "mode":
        (folder / "greet.yml").chmod(0o755)
    elif change == "name":
        (folder / "greet.yml").rename(folder / "other.yml")
    else:
        (folder / "link.yml").unlink()
        (folder / "link.yml").symlink_to("roles/x")
    assert read(folder).digest != before


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "roles/../../x", "..", "roles/../x"])
def test_a_link_that_leads_out_is_refused(folder, target):
    (folder / "out.yml").symlink_to(target)
    with pytest.raises(InvalidInput, match=r"out\.yml leads out of the source"):
        read(folder)


def test_a_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidInput, match="neither a file nor a link"):
        read(folder)


def test_a_folder_that_is_too_large_is_refused(folder):
    (folder / "big").write_bytes(b"x" * 2000)
    with pytest.raises(InvalidInput, match="larger than the portal takes"):
        read(folder, size_max=1000)


def test_too_many_files_are_refused(folder, monkeypatch):
    monkeypatch.setattr(trees, "FILES_MAX", 2)
    with pytest.raises(InvalidInput, match="more than 2 files"):
        read(folder)


def test_a_folder_that_no_setting_allows_is_refused(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "way").symlink_to(folder)
    for place in (folder, elsewhere / "way", elsewhere / "../site"):
        with pytest.raises(InvalidInput, match="BEIDOU_PLAYBOOK_FOLDERS"):
            trees.read_folder(place, folders=[elsewhere], size_max=1000)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(PermanentError, match="There is no folder"):
        read(tmp_path / "none")


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "", "a\nb", "x" * 301, "a\udc80"])
def test_a_path_that_cannot_be_kept_is_refused(path):
    with pytest.raises(InvalidInput, match="cannot be kept"):
        trees.checked([Entry(path, FILE, b"")])


WHOLE = trees.pack([Entry("a", FILE, b"x")])


@pytest.mark.parametrize(
    "packed", [b"", b"nonsense", WHOLE[:30]], ids=["nothing", "nonsense", "cut off"]
)
def test_what_was_kept_and_is_broken_is_said(packed):
    with pytest.raises(BeidouError, match="cannot be read"):
        trees.unpack(packed)


def test_nothing_is_written_through_a_link(tmp_path):
    entries = [Entry("a", LINK, b"b"), Entry("a/x", FILE, b"1"), Entry("b/y", FILE, b"2")]
    with pytest.raises(FileExistsError):
        trees.write(entries, tmp_path / "out")
    assert not (tmp_path / "out/b/x").exists()
