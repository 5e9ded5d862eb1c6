"""Processes that die with whoever started them, and finding those that did not.

ansible-core's workers call setsid, so killing a process group does not reach them (seen with 2.19).
A playbook therefore runs as the first process of its own PID namespace: the kernel ends everything
inside when it dies, and PR_SET_PDEATHSIG ends it when its worker dies.  Without root this needs a
user namespace; where neither is allowed, ``end_marked`` still finds the processes by a mark in
their environment.
"""

import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import psutil

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence

MARK = "BEIDOU_RUN"


@lru_cache(maxsize=1)
def isolation() -> tuple[str, ...]:
    """The command prefix that isolates a run; empty when this system allows none."""
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        return ()
    deadly = ("setpriv", "--pdeathsig", "KILL")
    inside = ("--fork", "--pid", "--mount-proc", "--kill-child=KILL")
    as_user = ("--user", "--map-root-user") if os.geteuid() != 0 else ()
    prefix = (*deadly, "unshare", *as_user, *inside)
    trial = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
    return prefix if trial.returncode == 0 else ()


def private_folder() -> Path:
    """Where what must have a short path, or must not outlive its process, has a folder of its own:
    sockets of SSH connections, secrets for git.  Our user's alone, and hidden from a site's
    playbooks."""
    folder = Path(tempfile.gettempdir()) / f"bd-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_ours_alone(folder):
        raise PermanentError(
            Sentence(
                "%(folder)s on the worker's machine is not the portal's alone; remove it.",
                folder=folder,
            ),
            code="folder_taken",
        )
    return folder


def is_ours_alone(folder: Path) -> bool:
    """Whether it is a folder, and no link to one, that our user alone can read and change."""
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return is_ours and not found.st_mode & 0o077


# First process of a run's namespaces: covers what must not be seen, and can no longer uncover it
# when it becomes the command.  A folder is covered by an empty one, a file by /dev/null; what the
# run itself needs in there stays open meanwhile, and is put back.
_HIDE = """
set -e
exec 3<"$1" 4<"$2"
run=$1 own=$2
shift 2
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mount -t tmpfs -o mode=0755,size=16m tmpfs "$1"
    elif [ -e "$1" ]; then mount --bind /dev/null "$1"
    fi
    shift
done
shift
mkdir -p "$run" "$own"
mount --no-canonicalize --bind /proc/self/fd/3 "$run"
mount --no-canonicalize --bind /proc/self/fd/4 "$own"
exec 3<&- 4<&-
# Where it stood before leads, by "..", to what is covered.
cd "$run"
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""


def hiding(hidden: Sequence[Path], *, run: Path, own: Path) -> tuple[str, ...]:
    """The command prefix of an isolated run that does not see ``hidden``, but for its folders
    ``run`` and ``own``, which may lie in it.  Empty when this system allows none.

    Without capabilities and in namespaces of its own, nothing of it can take the covers away.
    """
    if not isolation() or not _can_hide():
        return ()
    return _hiding(hidden, run, own)


def _hiding(hidden: Sequence[Path], run: Path, own: Path) -> tuple[str, ...]:
    places = [str(place) for place in hidden]
    return (*isolation(), "sh", "-c", _HIDE, "hide", str(run), str(own), *places, "--")


@lru_cache(maxsize=1)
def _can_hide() -> bool:
    """Whether it works here, by trying."""
    with tempfile.TemporaryDirectory(prefix="beidou-hide-") as folder:
        base = Path(folder)
        for name in ("secret", "secret/run", "secret/own"):
            (base / name).mkdir()
        for name in ("secret/key", "secret/run/mine", "secret/own/mine"):
            (base / name).write_text("x")
        seen = (
            'test -e mine && test -e ../own/mine && ! test -e ../key && ! test -e "$0/secret/key"'
        )
        test = f'{seen} && ! umount "$0/secret/run" && ! umount "$0/secret"'
        command = (
            *_hiding([base / "secret"], base / "secret/run", base / "secret/own"),
            *("sh", "-c", test, folder),
        )
        trial = subprocess.run(
            command, cwd=base / "secret/run", capture_output=True, timeout=10, check=False
        )
        return trial.returncode == 0


def end_marked(mark: str, *, patience_seconds: float = 3.0) -> int:
    """SIGKILL every process whose environment carries ``BEIDOU_RUN=mark``; returns how many.

    Processes are looked for again until none is left, because one may fork while it is being ended.
    """
    ended = 0
    deadline = time.monotonic() + patience_seconds
    while found := _marked(mark):
        for process in found:
            try:
                process.kill()
                ended += 1
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=0.5)
        if time.monotonic() > deadline:
            break
    return ended


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
            continue
    return found


def _kernel() -> str:
    """Where a pid means what it means here: this boot of this kernel and this PID namespace."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()[:8]
    return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"


def identity() -> str:
    """Who this process is, for leases: host/boot and PID namespace/pid/start time."""
    return f"{os.uname().nodename}/{_kernel()}/{os.getpid()}/{_started(os.getpid())}"


def _started(pid: int) -> int:
    """When the process was started, in clock ticks since boot (field 22 of /proc/PID/stat).

    Unlike a time of day it does not change when the clock is set.
    """
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def is_gone(holder: str) -> bool:
    """True when ``holder`` (an ``identity``) was a process that can be seen from here, and is dead.

    Of other hosts, earlier boots and other containers nothing is known, even if they bear the same
    host name, so the answer is False and the lease has to lapse.
    """
    try:
        host, kernel, pid, started = holder.rsplit("/", 3)
    except ValueError:
        return False
    if (host, kernel) != (os.uname().nodename, _kernel()):
        return False
    try:
        zombie = psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
        return zombie or _started(int(pid)) != int(started)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, ValueError):
        return True
