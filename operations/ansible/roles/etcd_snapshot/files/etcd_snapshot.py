"""Take a snapshot of etcd on a control plane, verify and keep it; runs there by itself.

    etcd_snapshot.py FOLDER KEEP

Uses the programs of etcd's own container, which the kernel shows below ``/proc/PID/root``.  The
last line of the output is JSON: path, size, sha256, revision, total_keys, removed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

PKI = "/etc/kubernetes/pki/etcd"
PROGRAM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")
STEM = "beidou-etcd-"
STATE_FOLDER = "/var/lib/beidou"
BLOCK = 1 << 20


class Problem(Exception):
    """Ends the program with a sentence and exit code 1."""


def etcd_root(proc: str = "/proc") -> str:
    """The root of the container in which etcd runs."""
    for entry in sorted(os.listdir(proc)):
        if not entry.isdigit():
            continue
        try:
            with open(f"{proc}/{entry}/cmdline", "rb") as file:
                program = file.read().split(b"\0", 1)[0].decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if os.path.basename(program) == "etcd":
            return f"{proc}/{entry}/root"
    raise Problem("No etcd runs on this machine.")


def program(name: str, root: str) -> str:
    """``name`` of etcd's container, else of the machine."""
    for folder in PROGRAM_FOLDERS:
        path = f"{root}{folder}/{name}"
        if os.access(path, os.X_OK):
            return path
    found = shutil.which(name)
    if found is None:
        raise Problem(f"There is no {name}, neither beside etcd nor on the machine.")
    return found


def call(*command: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/root"},
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        why = words[-1] if words else f"exit code {done.returncode}"
        raise Problem(f"{os.path.basename(command[0])} failed: {why}")
    return done.stdout


def save(root: str, path: str) -> None:
    call(
        program("etcdctl", root),
        "--endpoints=https://127.0.0.1:2379",
        f"--cacert={PKI}/ca.crt",
        f"--cert={PKI}/healthcheck-client.crt",
        f"--key={PKI}/healthcheck-client.key",
        "--command-timeout=600s",
        "snapshot",
        "save",
        path,
    )
    os.chmod(path, 0o600)


def status(root: str, path: str) -> dict[str, Any]:
    """What ``etcdutl snapshot status`` reads in it; it fails on a damaged one."""
    text = call(program("etcdutl", root), "snapshot", "status", path, "--write-out=json")
    try:
        found = json.loads(text)
    except ValueError:
        raise Problem(f"etcdutl did not tell the snapshot's status: {text.strip()[:200]}") from None
    if not isinstance(found, dict) or not found.get("totalKey"):
        raise Problem("etcdutl finds no keys in the snapshot.")
    return found


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def remove_old(folder: str, keep: int) -> list[str]:
    """All but the newest ``keep`` of ours, by the time in their names."""
    removed = []
    for path in sorted(glob.glob(f"{glob.escape(folder)}/{STEM}*.db"))[: -max(keep, 1)]:
        for each in (path, f"{path}.sha256"):
            if os.path.exists(each):
                os.unlink(each)
        removed.append(os.path.basename(path))
    return removed


def remove_halves(folder: str) -> None:
    """Of snapshots that were interrupted; etcdctl adds an ending of its own."""
    for path in glob.glob(f"{glob.escape(folder)}/.{STEM}*"):
        os.unlink(path)


def note(*paths: str) -> None:
    """As module_utils' ``records.py`` does: a reset takes away what is noted, and only that."""
    os.makedirs(STATE_FOLDER, mode=0o700, exist_ok=True)
    with open(f"{STATE_FOLDER}/placed", "a", encoding="utf-8") as file:
        file.writelines(f"{path}\n" for path in paths)


def make(folder: str) -> None:
    """With its parents, each of which is noted when it was not there."""
    missing, parent = [], folder
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    note(*reversed(missing))
    os.makedirs(folder, mode=0o700, exist_ok=True)


def take(folder: str, keep: int) -> dict[str, Any]:
    root = etcd_root()
    make(folder)
    remove_halves(folder)
    name = f"{STEM}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.db"
    partial, path = f"{folder}/.{name}", f"{folder}/{name}"
    note(path, f"{path}.sha256", partial, f"{partial}.part")
    save(root, partial)
    found = status(root, partial)
    checksum = sha256_of(partial)
    with open(f"{path}.sha256", "w", encoding="utf-8") as file:
        file.write(f"{checksum}  {name}\n")
    os.replace(partial, path)
    remove_halves(folder)  # a lock that etcdutl left
    return {
        "path": path,
        "size": os.path.getsize(path),
        "sha256": checksum,
        "revision": found.get("revision"),
        "total_keys": found["totalKey"],
        "removed": remove_old(folder, keep),
    }


def main(folder: str, keep: str) -> int:
    try:
        answer = take(folder, int(keep))
    except (Problem, OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    sys.stdout.write(f"{json.dumps(answer)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2]))
