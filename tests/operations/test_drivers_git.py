"""Commits of a real git repository, fetched over file://; what would be asked of others is
refused."""

import subprocess
import time

import pytest

from beidou.base.errors import ExternalError, InvalidInput, PermanentError, TemporaryError
from operations.drivers import git, trees
from operations.drivers.git import Repository

KEY = {"secret": "KEY", "host_keys": "h ssh-ed25519 AAAA"}


class Repo:
    """A work tree with commits."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments):
        done = subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
            cwd=self.folder, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, **files):
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=x")
        return self.git("rev-parse", "HEAD")

    def read(self, ref="main", size_max=1 << 20, **values):
        repository = Repository(f"file://{self.folder}", ref, **values)
        return git.read(repository, folders=[self.folder.parent], size_max=size_max)


@pytest.fixture
def repo(tmp_path):
    return Repo(tmp_path / "repo")


def contents(tree):
    return {each.path: each.content.decode() for each in tree.entries}


def test_a_branch_a_tag_and_a_commit_are_found(repo):
    first = repo.commit(a="1")
    repo.git("tag", "--annotate", "v1", "--message=x")
    second = repo.commit(a="2")
    assert (repo.read().revision, contents(repo.read())) == (second, {"a": "2"})
    assert (repo.read("v1").revision, contents(repo.read("v1"))) == (first, {"a": "1"})
    assert contents(repo.read(first)) == {"a": "1"}


def test_a_subfolder_is_all_there_is(repo):
    repo.commit(ops__play="x", secret="y")
    assert contents(repo.read(subfolder="ops")) == {"play": "x"}


def test_attributes_and_filters_change_nothing(repo, tmp_path):
    mark = tmp_path / "ran"
    repo.git("config", "filter.evil.smudge", f"touch {mark}")
    repo.git("config", "uploadpack.packObjectsHook", f"touch {mark}; exec")
    attributes = "* filter=evil\nhidden export-ignore\nplay export-subst\n"
    repo.commit(**{".gitattributes": attributes, "hidden": "h", "play": "$Format:%H$"})
    hook = repo.folder / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    found = contents(repo.read())
    assert (found["hidden"], found["play"]) == ("h", "$Format:%H$")
    assert not mark.exists()


def test_links_and_programs_are_kept_and_submodules_named(repo, tmp_path):
    other = Repo(tmp_path / "other")
    other.commit(x="1")
    (repo.folder / "run").write_text("#!/bin/sh\n")
    (repo.folder / "run").chmod(0o755)
    (repo.folder / "link").symlink_to("run")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet",
             str(other.folder), "roles")  # fmt: skip
    repo.commit(a="1")
    tree = repo.read()
    kinds = {each.path: each.kind for each in tree.entries}
    assert (kinds["run"], kinds["link"]) == (trees.PROGRAM, trees.LINK)
    assert tree.left_out == ("roles",)


def test_a_link_that_leads_out_is_refused(repo):
    (repo.folder / "link").symlink_to("/etc/passwd")
    repo.commit(a="1")
    with pytest.raises(InvalidInput, match="leads out"):
        repo.read()


@pytest.mark.parametrize(
    ("ref", "subfolder", "sentence"),
    [("none", "", "no such branch"), ("0" * 40, "", "no such"), ("main", "x", "no such folder")],
)
def test_what_is_not_there_is_said(repo, ref, subfolder, sentence):
    repo.commit(a="1")
    with pytest.raises(ExternalError, match=sentence):
        repo.read(ref, subfolder=subfolder)


def test_what_would_become_too_large_is_not_even_read(repo):
    repo.commit(a="0" * 100_000)
    with pytest.raises(InvalidInput, match="larger"):
        repo.read(size_max=1000)


def test_a_repository_that_fetches_too_much_is_ended(repo, monkeypatch):
    monkeypatch.setattr(git, "SLACK", -(1 << 30))
    monkeypatch.setattr(git, "LOOK_SECONDS", 0.001)
    repo.commit(a="1")
    with pytest.raises(InvalidInput, match="larger"):
        repo.read()


def test_a_small_repository_with_endless_files_is_ended(repo):
    tree, kind = repo.git("hash-object", "-w", "/dev/null"), "100644 blob"
    for _level in range(10):
        lines = "".join(f"{kind} {tree}\t{number}\n" for number in range(10))
        made = subprocess.run(
            ["git", "mktree"], cwd=repo.folder, input=lines, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        tree, kind = made.stdout.strip(), "040000 tree"
    repo.git("update-ref", "refs/heads/main", repo.git("commit-tree", tree, "-m", "x"))
    repository = Repository(f"file://{repo.folder}", "main")
    with pytest.raises(InvalidInput, match="larger"):
        git.read(repository, folders=[repo.folder.parent], size_max=1 << 20, seconds=3)


@pytest.mark.parametrize("where", [1, 2])
def test_a_git_that_says_too_much_is_ended(tmp_path, where):
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\nexec yes >&{where}\n")
    program.chmod(0o755)
    started = git._Git(tmp_path, {"PATH": f"{tmp_path}:/usr/bin:/bin"}, "file")
    started.size_max, started.deadline = 1, time.monotonic() + 3
    with pytest.raises(InvalidInput, match="larger"):
        started.run("fetch")


def test_what_a_git_said_at_once_is_not_read_either(tmp_path):
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nexec head -c 20000000 /dev/zero\n")
    program.chmod(0o755)
    started = git._Git(tmp_path, {"PATH": f"{tmp_path}:/usr/bin:/bin"}, "file")
    started.size_max = 1
    with pytest.raises(InvalidInput, match="larger"):
        started.run("fetch")


def test_a_server_that_never_answers_is_given_up(tmp_path):
    from tests.fakes.ssh_server import silent_server  # noqa: PLC0415

    with silent_server() as port:
        repository = Repository(f"https://127.0.0.1:{port}/x", "main")
        with pytest.raises(TemporaryError, match="did not end in time"):
            git.read(repository, folders=[], size_max=1000, seconds=1)


def test_the_secret_goes_to_the_server_and_not_into_the_error(tmp_path):
    repository = Repository("https://127.0.0.1:1/x", "main", user="u", secret="s3cret-token")
    with pytest.raises(TemporaryError) as caught:
        git.read(repository, folders=[], size_max=1000)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"url": "http://x/y"}, "location"),
        ({"url": "git://x/y"}, "location"),
        ({"url": "ext::sh -c id"}, "location"),
        ({"url": "--upload-pack=id"}, "location"),
        ({"url": "git@host:x/y"}, "location"),
        ({"url": "https://u:p@host/y"}, "location"),
        ({"url": "https://u@host/y"}, "location"),
        ({"url": "https://host/y?x=1"}, "location"),
        ({"url": "ssh://-oProxyCommand=id/y", **KEY}, "location"),
        ({"url": "ssh://-x@host/y", **KEY}, "location"),
        ({"url": "https://[::1/y"}, "location"),
        ({"url": "file:///etc"}, "location"),
        ({"url": "file://host/etc"}, "location"),
        ({"url": "ssh://git@host/y"}, "secret"),
        ({"url": "ssh://git@host/y", "secret": "KEY"}, "host_keys"),
        ({"ref": "--upload-pack=id"}, "ref"),
        ({"ref": "a..b"}, "ref"),
        ({"ref": "a:b"}, "ref"),
        ({"ref": ""}, "ref"),
        ({"subfolder": "../x"}, "subfolder"),
        ({"subfolder": "/x"}, "subfolder"),
        ({"subfolder": "a:b"}, "subfolder"),
    ],
)
def test_what_is_no_repository_is_refused_at_its_field(values, field, tmp_path):
    repository = Repository(**{"url": "https://host/x", "ref": "main", **values})
    with pytest.raises(InvalidInput) as caught:
        git.check(repository, folders=[tmp_path])
    assert set(caught.value.fields) == {field}


@pytest.mark.parametrize(
    "values",
    [
        {"url": "https://host:8443/x.git"},
        {"url": "ssh://git@host:22/x", **KEY},
        {"ref": "refs/heads/main"},
        {"ref": "v1.2.3"},
        {"subfolder": "ops/play books"},
    ],
)
def test_what_is_one_is_taken(values):
    git.check(Repository(**{"url": "https://host/x", "ref": "main", **values}), folders=[])


def test_a_worker_without_git_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PermanentError, match="no git on the worker"):
        git.read(Repository("https://host/x", "main"), folders=[], size_max=1)
