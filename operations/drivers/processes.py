"""Processes that die with whoever started them, and finding those that did not.

ansible-core's workers call setsid, so killing a process group does not reach them (seen with 2.19).
A playbook therefore runs as the first process of its own PID namespace: the kernel ends everything
inside when it dies, and PR_SET_PDEATHSIG ends it when its worker dies.  Without root this needs a
user namespace; where neither is allowed, ``end_marked`` still finds the processes by a mark in
their environment.
"""

import os
import shutil
import subprocess
import time
from functools import lru_cache

import psutil

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
