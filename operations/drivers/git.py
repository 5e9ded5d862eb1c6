"""One commit of a git repository as a tree, fetched by the git program without trusting either
side.

Nothing of the fetched content is ever executed or checked out: there is no work tree, hooks and
filters have nothing to hang on, attributes are not looked at, submodules are not followed.  Files
are read as they are in the commit.  Of the portal user's own git and SSH configuration nothing is
read, and nobody is ever asked anything.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from beidou.base.errors import InvalidInput, PermanentError, TemporaryError, shorten
from beidou.base.sentences import Sentence
from operations.drivers import processes, trees
from operations.drivers.trees import Entry, Tree

SECONDS: Final = 120
LOOK_SECONDS: Final = 0.1
SLACK: Final = 8 << 20  # of a repository, and of what git says, beside the files
_PREFIX: Final = "git-"
_FETCH: Final = (
    "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-commit-graph",
)  # fmt: skip
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,198}")
_FOLDER = re.compile(r"[^\x00-\x1f:]{0,200}")
_KINDS: Final = {"100644": trees.FILE, "100755": trees.PROGRAM, "120000": trees.LINK}
_SUBMODULE: Final = "160000"


@dataclass(frozen=True)
class Repository:
    """``user`` and ``secret``: a password or token for https, a private key for ssh, for which
    ``host_keys`` are lines as in ``known_hosts``."""

    url: str
    ref: str
    subfolder: str = ""
    user: str = ""
    secret: str = field(default="", repr=False)
    host_keys: str = ""


def check(repository: Repository, *, folders: Sequence[Path]) -> None:
    """``InvalidInput`` naming the field: https and ssh, file only below ``folders``."""
    try:
        url = urlsplit(repository.url)
        _port = url.port
    except ValueError:
        raise _wrong("location", Sentence("This is no address.")) from None
    if url.scheme not in ("https", "ssh", "file"):
        raise _wrong(
            "location",
            Sentence("Give an address that begins with https://, ssh:// or file://."),
        )
    if url.password is not None or (url.scheme == "https" and url.username is not None):
        raise _wrong(
            "location",
            Sentence("User and password do not belong into the address; use the fields."),
        )
    if url.query or url.fragment or re.search(r"[\s\x00-\x1f]", repository.url):
        raise _wrong(
            "location", Sentence("The address has something that belongs to no repository.")
        )
    if url.scheme == "file":
        if url.netloc:
            raise _wrong("location", Sentence("Write it as file:///folder."))
        trees.check_place(Path(unquote(url.path)), folders)
    elif not url.hostname or url.hostname.startswith("-") or (url.username or "").startswith("-"):
        raise _wrong("location", Sentence("This is no address."))
    if url.scheme == "ssh" and not (repository.secret and repository.host_keys.strip()):
        raise _wrong(
            "host_keys" if repository.secret else "secret",
            Sentence("ssh needs a private key, and the host's keys as in known_hosts."),
        )
    if not _REF.fullmatch(repository.ref) or ".." in repository.ref:
        raise _wrong("ref", Sentence("Give a branch, a tag or a commit."))
    parts = repository.subfolder.split("/") if repository.subfolder else []
    if not _FOLDER.fullmatch(repository.subfolder) or any(
        part in ("", ".", "..") for part in parts
    ):
        raise _wrong("subfolder", Sentence("Give a folder of the repository, like ops/playbooks."))


def _wrong(name: str, sentence: Sentence) -> InvalidInput:
    return InvalidInput(sentence, code="bad_source", fields={name: sentence})


def read(
    repository: Repository, *, folders: Sequence[Path], size_max: int, seconds: float = SECONDS
) -> Tree:
    """The tree of the commit that ``ref`` names now."""
    check(repository, folders=folders)
    if shutil.which("git") is None:
        raise PermanentError(
            Sentence("There is no git on the worker's machine; install the package git."),
            code="no_git",
        )
    with _workplace(repository) as git:
        git.deadline = time.monotonic() + seconds
        git.size_max = size_max
        git.run("init", "--quiet", "--bare", str(git.place))
        git.run("fetch", *_FETCH, "--end-of-options", repository.url, repository.ref)
        commit = git.run("rev-parse", "--verify", "FETCH_HEAD^{commit}").decode().strip()
        entries, left_out = _entries(git, f"{commit}:{repository.subfolder}", size_max)
        return Tree(commit, trees.checked(entries), tuple(left_out))


class _Git:
    """Runs git in a bare repository of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str], protocol: str) -> None:
        self.folder = folder
        self.place = folder / "repository"
        self.environment = environment
        self.protocol = protocol
        self.deadline = time.monotonic() + SECONDS
        self.size_max = 0

    def run(self, verb: str, *arguments: str, given: bytes = b"") -> bytes:
        """Its output; ended when it takes too long or fetches too much."""
        settings = [
            *("-c", "core.hooksPath=/dev/null", "-c", "core.attributesFile=/dev/null"),
            *("-c", "protocol.allow=never", "-c", f"protocol.{self.protocol}.allow=always"),
            *("-c", "http.followRedirects=false", "-c", "credential.helper="),
            *("-c", "transfer.fsckObjects=true", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
            *("-c", "submodule.recurse=false", "-c", "core.fsmonitor=false"),
        ]
        command = [*processes.isolation(), "git", *settings, verb, *arguments]
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as out:
            with tempfile.TemporaryFile() as asked:
                asked.write(given)
                asked.seek(0)
                process = subprocess.Popen(
                    command, cwd=self.folder, env={**self.environment, "GIT_DIR": str(self.place)},
                    stdin=asked, stdout=out, stderr=said, start_new_session=True,
                )  # fmt: skip
            try:
                self._wait(process, (out.fileno(), said.fileno()))
            finally:
                _end(process)
            self._refuse_much((out.fileno(), said.fileno()))
            if process.returncode != 0:
                said.seek(0)
                raise _failed(said.read(20_000).decode("utf-8", "replace"))
            out.seek(0)
            return out.read()

    def _wait(self, process: "subprocess.Popen[bytes]", written: Sequence[int]) -> None:
        while True:
            try:
                process.wait(timeout=LOOK_SECONDS)
                return
            except subprocess.TimeoutExpired:
                pass
            if time.monotonic() > self.deadline:
                raise TemporaryError(
                    Sentence("git did not end in time; see whether the server is well."),
                    code="git_timeout",
                )
            if self.size_max and _size(self.place) > self.size_max + SLACK:
                raise trees.too_large()
            self._refuse_much(written)

    def _refuse_much(self, written: Sequence[int]) -> None:
        """Of these files of output: a few trees in each other list more files than fit on any
        disk."""
        if self.size_max and any(
            os.fstat(each).st_size > self.size_max + SLACK for each in written
        ):
            raise trees.too_large()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With everything that it began (transport helpers, ssh)."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _size(folder: Path) -> int:
    total = 0
    for place, _folders, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue  # a temporary file of git's, gone again
    return total


def _failed(said: str) -> Exception:
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("hint:")]
    text = shorten(" ".join(lines) or "git")
    if re.search(r"couldn't find remote ref|not our ref|Needed a single revision", said):
        return PermanentError(
            Sentence("The repository has no such branch, tag or commit."), code="no_ref"
        )
    if re.search(r"Not a valid object name|not a tree object", said):
        return PermanentError(
            Sentence("The repository has no such folder at this commit."), code="no_folder"
        )
    if re.search(r"Authentication failed|Permission denied|could not read Username", said):
        return PermanentError(
            Sentence("The repository does not let us in: %(why)s", why=text), code="unauthorized"
        )
    return TemporaryError(Sentence("git could not fetch: %(why)s", why=text), code="git_failed")


def _entries(git: _Git, tree: str, size_max: int) -> tuple[list[Entry], list[str]]:
    """Sizes are known before anything is read: a small pack may hold gigabytes."""
    listed: list[tuple[str, str, str]] = []
    left_out, left = [], size_max
    for line in git.run("ls-tree", "-r", "-z", "-l", "--full-tree", tree).split(b"\0"):
        if not line:
            continue
        about, _tab, raw = line.partition(b"\t")
        mode, _type, name, size = about.decode().split()
        path = raw.decode("utf-8", "surrogateescape")
        if mode == _SUBMODULE:
            left_out.append(path)
            continue
        left -= int(size)
        if left < 0 or len(listed) > trees.FILES_MAX:
            raise trees.too_large()
        listed.append((path, _KINDS.get(mode, trees.FILE), name))
    contents = _contents(git, [name for _path, _kind, name in listed])
    return [
        Entry(path, kind, content)
        for (path, kind, _name), content in zip(listed, contents, strict=True)
    ], left_out


def _contents(git: _Git, names: Sequence[str]) -> Iterator[bytes]:
    """Of these objects, in this order; git's answer is ``NAME blob SIZE`` and the content."""
    answer = git.run("cat-file", "--batch", given="".join(f"{name}\n" for name in names).encode())
    place = 0
    for _name in names:
        end = answer.index(b"\n", place)
        size = int(answer[place:end].split()[2])
        yield answer[end + 1 : end + 1 + size]
        place = end + 2 + size


def forgotten() -> Iterator[Path]:
    """Folders with a secret whose worker was killed: older than any reading can be."""
    latest = time.time() - SECONDS - 60
    for folder in processes.private_folder().glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
        except OSError:
            continue  # removed just now
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mtime < latest:
            yield folder


@contextmanager
def _workplace(repository: Repository) -> Iterator[_Git]:
    """A private folder with the secret in a file, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=processes.private_folder()))
    try:
        url = urlsplit(repository.url)
        yield _Git(folder, _environment(repository, folder), url.scheme)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(repository: Repository, folder: Path) -> dict[str, str]:
    url = urlsplit(repository.url)
    _write(folder / "gitconfig", _config(unquote(url.path) if url.scheme == "file" else ""))
    ssh = [
        "ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
        "-o", f"UserKnownHostsFile={folder / 'known_hosts'}",
        "-o", "GlobalKnownHostsFile=/dev/null",
        "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=15",
        "-o", "ForwardAgent=no", "-i", str(folder / "key"),
    ]  # fmt: skip
    values = {
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        ),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": url.scheme,
        "GIT_SSH_COMMAND": " ".join(ssh),
        "GIT_SSH_VARIANT": "ssh",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
    }
    if url.scheme == "ssh":
        _write(folder / "key", repository.secret.strip() + "\n")
        _write(folder / "known_hosts", repository.host_keys.strip() + "\n")
    elif url.scheme == "https" and repository.secret:
        _write(folder / "user", repository.user or "git")
        _write(folder / "secret", repository.secret)
        _write(
            folder / "ask",
            '#!/bin/sh\ncase "$1" in Username*) exec cat "$HOME/user";; '
            '*) exec cat "$HOME/secret";; esac\n',
            mode=0o700,
        )
        values["GIT_ASKPASS"] = str(folder / "ask")
    return values


def _config(own_folder: str) -> str:
    """git refuses a repository of another user's; this one was allowed by a setting."""
    if not own_folder:
        return ""
    quoted = own_folder.rstrip("/").replace("\\", "\\\\").replace('"', '\\"')
    return f'[safe]\n\tdirectory = "{quoted}"\n\tdirectory = "{quoted}/.git"\n'


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
