"""``manage.py collect`` as a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 120


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An embedded database of these tests alone."""
    environment = {**os.environ, "BEIDOU_LOG_LEVEL": "INFO"}
    environment["BEIDOU_DATA_DIR"] = str(tmp_path_factory.mktemp("data"))
    environment.pop("BEIDOU_DATABASE_URL", None)
    environment["DJANGO_SETTINGS_MODULE"] = "beidou.settings"
    manage = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
    subprocess.run(manage, cwd=ROOT, env=environment, check=True)
    return environment


def wait_for(file, text, process):
    limit = time.monotonic() + DEADLINE_SECONDS
    while text not in file.read_text():
        assert process.poll() is None, file.read_text()
        assert time.monotonic() < limit, file.read_text()
        time.sleep(0.05)


@contextlib.contextmanager
def collecting(environment, log, *options):
    """The process, once it has begun; killed in the end if it is still there."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *options, "manage.py", "collect"],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
        )
    try:
        wait_for(log, "collector_started", process)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_collector_starts_and_ends_when_asked(environment, tmp_path, ending):
    log = tmp_path / "collect.log"
    with collecting(environment, log) as process:
        process.send_signal(ending)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert "collector_stopped" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_collector_loads_neither_pages_nor_the_api(environment, tmp_path):
    """They would cost it a fifth of the memory that a large cluster may take."""
    log = tmp_path / "collect.log"
    with collecting(environment, log, "-X", "importtime"):
        pass
    loaded = {line.split("|")[-1].strip() for line in log.read_text().splitlines()}
    assert "clusters.collector.process" in loaded
    assert not loaded & {"rest_framework.serializers", "requests", "beidou.urls", "clusters.admin"}
