"""The portal as one command: started, asked over HTTP, hurt, and stopped."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Portal:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def child(self, command: str) -> psutil.Process:
        """The running program ``manage.py COMMAND``."""
        for child in psutil.Process(self.process.pid).children():
            if command in child.cmdline():
                return child
        raise LookupError(command)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def said(self) -> str:
        return self.log.read_text()


def wait_for(condition, what: str, seconds: float = 90.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            value = condition()
        except (LookupError, OSError, psutil.Error, http.client.HTTPException):
            value = None
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path, port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BEIDOU_")}
    kept.pop("DJANGO_SETTINGS_MODULE", None)
    return {**kept, "BEIDOU_DATA_DIR": str(folder), "BEIDOU_PORT": str(port)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("portal")


def start(folder: Path) -> Portal:
    port = free_port()
    log = folder / f"log-{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT, env=environment(folder / "data", port), stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    running = Portal(process, port, log)
    wait_for(
        lambda: "Beidou is at" in running.said() or process.poll() is not None, "the start", 180
    )
    if process.poll() is not None:
        raise AssertionError(running.said()[-3000:])
    return running


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def started(folder) -> Iterator[list[Portal]]:
    """All portals that this module has started, the newest last."""
    portals: list[Portal] = []
    try:
        yield portals
    finally:
        for one in portals:
            stop(one.process)


@pytest.fixture
def portal(folder: Path, started: list[Portal]) -> Portal:
    """The running portal; started when there is none, or when a test before has ended it."""
    if not started or started[-1].process.poll() is not None:
        started.append(start(folder))
    return started[-1]


def ended(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def test_the_first_start_says_address_and_password_and_serves_the_sign_in(portal):
    assert f"http://127.0.0.1:{portal.port}/" in portal.said()
    assert "password" in portal.said()
    status, headers, body = portal.get("/login/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"login-form" in body


def test_what_a_newcomer_needs_comes_in_one_block_after_the_lines_of_the_start(portal):
    before, block = portal.said().split("Beidou is at", 1)
    assert "Uvicorn running" in before
    assert "    name      admin\n    password  " in block
    assert "\n=====" in block


def test_a_killed_worker_is_replaced_and_leaves_nothing_behind(portal):
    worker = wait_for(lambda: portal.child("work"), "the worker")
    old = wait_for(lambda: len(worker.children(recursive=True)) >= 3, "the worker's children")
    old = [worker, *worker.children(recursive=True)]
    worker.kill()
    wait_for(lambda: ended(old), "the end of the worker's children", 15)
    wait_for(lambda: portal.child("work").pid != worker.pid, "the new worker")


def companions_of(worker: psutil.Process) -> set[int]:
    """The clock, the callers, the messenger: they fork nothing; django-q2 has workers under its
    own."""
    alone = {one.pid for one in worker.children() if not one.children()}
    if len(alone) != 3:
        raise LookupError("companions")
    return alone


def test_killed_companions_are_replaced_and_the_workers_go_on(portal):
    worker = wait_for(lambda: portal.child("work"), "the worker")
    killed = wait_for(lambda: companions_of(worker), "the clock, the callers and the messenger")
    others = {one.pid for one in worker.children(recursive=True)} - killed
    for pid in killed:
        psutil.Process(pid).kill()
    wait_for(lambda: not killed & companions_of(worker), "the new ones", 15)
    assert others < {one.pid for one in worker.children(recursive=True)}


def test_the_clock_goes_on_while_every_worker_is_busy(portal, folder):
    """Reaping included: the step's worker died, and no worker has time to look."""
    script = (Path(__file__).parent / "busy_workers.py").read_text()
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", script],
        cwd=ROOT, env=environment(folder / "data", portal.port), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    portal.child("work").kill()  # ends the tasks that keep its workers busy


def test_a_killed_web_process_is_replaced(portal):
    web = wait_for(lambda: portal.child("web"), "the web process")
    web.kill()
    wait_for(lambda: portal.child("web").pid != web.pid, "the new web process")
    wait_for(lambda: portal.get("/healthz")[0] == 200, "an answer")


def test_ctrl_c_stops_everything(portal):
    family = wait_for(lambda: len(portal.family()) >= 6 and portal.family(), "the family")
    portal.process.send_signal(signal.SIGINT)
    assert portal.process.wait(60) == 0
    assert ended(family)
    assert "Beidou has stopped." in portal.said()


def test_a_second_start_prepares_nothing_and_shows_no_password(portal):
    """Under 10 s of wall time on a free machine; here the work is counted, not the load."""
    assert "password" not in portal.said()
    assert "ready." not in portal.said()
    supervisor = psutil.Process(portal.process.pid).cpu_times()
    assert supervisor.user + supervisor.system < 10


def test_a_killed_supervisor_takes_everything_with_it(portal):
    family = wait_for(lambda: len(portal.family()) >= 6 and portal.family(), "the family")
    portal.process.kill()
    portal.process.wait()
    wait_for(lambda: ended(family), "the end of the family", 15)


def test_a_taken_port_is_refused_with_a_sentence(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        process = subprocess.run(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT, env=environment(folder / "data", port), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
    assert process.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in process.stderr
    assert "BEIDOU_PORT" in process.stderr
