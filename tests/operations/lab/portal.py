"""The whole portal as a user starts it, with a data folder and a port of its own, and how to hurt
it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from lab.client import PortalClient
from lab.hosts import Host

ROOT = Path(__file__).resolve().parents[3]


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Portal:
    """``with Portal(folder) as portal:``; ``portal.api`` is a client with an administrator's
    token."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("BEIDOU_", "DJANGO_"))
        } | {"BEIDOU_DATA_DIR": str(folder), "BEIDOU_PORT": str(self.port)}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "portal.log"
        self.cluster: dict[str, Any] = {}
        self.credential: dict[str, Any] = {}

    def __enter__(self) -> "Portal":
        self.start()
        self.manage("ensure_admin")
        token = self.manage("create_token", "admin", "--name", "tests").split()[-1]
        self.api = PortalClient(f"http://127.0.0.1:{self.port}", token)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        client = PortalClient(f"http://127.0.0.1:{self.port}", "")
        wait_until(client.answers, f"the portal; its log: {self.log}", 120)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=90)

    # --- what is running ---------------------------------------------------------------------
    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def program(self, name: str) -> psutil.Process:
        """The main process of ``web``, ``work`` or ``collect``."""
        for process in self.children():
            command = process.cmdline()
            if "manage.py" in " ".join(command) and command[-1] == name:
                return process
        raise AssertionError(f"{name} does not run")

    def ansible(self) -> list[psutil.Process]:
        """The ansible processes of this portal."""
        found = []
        for process in self.children():
            try:
                if any("ansible-playbook" in part for part in process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def marked(self) -> list[psutil.Process]:
        """Every process of a playbook run of this portal, wherever it hangs in the tree."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if environment.get("BEIDOU_RUN") and str(self.folder) in environment.get("HOME", ""):
                found.append(process)
        return found

    def step_worker(self, operation: int) -> psutil.Process:
        """The worker child that holds the running step: the parent of its ansible."""
        for process in self.ansible():
            parent = process.parent()
            while parent is not None and parent.cmdline()[-1:] != ["work"]:
                parent = parent.parent()
            if parent is not None:
                return parent
        raise AssertionError(f"no step of operation {operation} runs here")

    # --- the main job ------------------------------------------------------------------------
    def adopt(
        self, *, name: str, kubeconfig: str, ssh_key: str, artifact_source: str,
        policy: dict[str, Any], overrides: dict[str, Any],
    ) -> None:  # fmt: skip
        wish = {"name": name, "kubeconfig": kubeconfig}
        self.cluster = self.api.post("clusters/", wish)["cluster"]
        self.use_key(ssh_key)
        self.api.patch(
            f"operation-settings/{self.cluster['id']}/",
            {
                "artifact_source": artifact_source,
                "credential": self.credential["id"],
                "policy": policy,
                "overrides": overrides,
            },
        )

    def use_key(self, ssh_key: str) -> None:
        """Sign in to machines with it."""
        self.credential = self.api.post(
            "credentials/", {"name": "lab", "user": "root", "private_key": ssh_key}
        )

    def register(self, *hosts: Host) -> list[int]:
        """Machines for delivered hosts, Available once their facts were gathered."""
        keys = [
            self.api.post(
                "machines/",
                {
                    "address": host.address,
                    "hostname": host.name,
                    "credential": self.credential["id"],
                },
            )["id"]
            for host in hosts
        ]

        self.api.post("machines/gather-facts/", {"machines": keys})

        def available() -> bool:
            rows = [self.api.get(f"machines/{key}/") for key in keys]
            return all(row["state"] == "available" for row in rows)

        wait_until(available, "the machines' facts", 60)
        return keys

    def start_operation(self, kind: str, machines: list[int], **values: Any) -> int:
        body = {"kind": kind, "cluster": self.cluster["id"], "machines": machines, **values}
        return int(self.api.post("operations/", body)["id"])

    def wait_for_step(self, operation: int, step: str, seconds: float = 120) -> None:
        """Until ``step`` is running."""

        def running() -> bool:
            row = self.api.get(f"operations/{operation}/")
            state = {item["name"]: item["status"] for item in row["steps"]}[step]
            assert state in ("waiting", "running"), f"{step} is {state} already: {row['message']}"
            return state == "running"

        wait_until(running, f"step {step} to run", seconds)

    def wait_until_begun(self, operation: int, step: str, seconds: float = 200) -> None:
        """Until ``step`` runs or has run."""

        def begun() -> bool:
            row = self.api.get(f"operations/{operation}/")
            assert row["status"] not in ("failed", "partial", "canceled"), row["message"]
            return {item["name"]: item["status"] for item in row["steps"]}[step] != "waiting"

        wait_until(begun, f"step {step} to begin", seconds)

    def wait_for_program(self, name: str, *, other_than: int) -> None:
        """Until ``name`` runs again after it was killed, and the portal answers."""

        def again() -> bool:
            try:
                return self.program(name).pid != other_than
            except (AssertionError, psutil.Error):
                return False

        wait_until(again, f"{name} to run again", 60)
        wait_until(self.api.answers, "the portal to answer", 60)

    def output(self, operation: int) -> list[str]:
        """Every line of the output."""
        lines: list[str] = []
        after = 0
        while True:
            page = self.api.get(f"operations/{operation}/output/?after={after}&limit=5000")
            if not page["lines"]:
                return lines
            lines += [line["text"] for line in page["lines"]]
            after = page["after"]
