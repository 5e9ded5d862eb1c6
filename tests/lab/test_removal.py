"""Nothing of a lab stays: neither after its end nor after the death of its owner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Lab, LabError, state
from lab.network import LABEL
from lab.process import run

pytestmark = pytest.mark.lab

DIES = """
import os, sys, time
from lab import Lab
lab = Lab.start(sys.argv[1])
lab.redis()
lab.host("left-1")
print(lab.endpoint("redis").process.pid, flush=True)
time.sleep(600)
"""


def podman_knows(name: str) -> str:
    label = f"label={LABEL}={name}"
    return (
        run("podman", "ps", "--all", "--quiet", "--filter", label)
        + run("podman", "network", "ls", "--quiet", "--filter", label)
    ).strip()


def test_stop_removes_hosts_servers_network_and_folder(real_lab: Lab):
    with Lab.start(f"{real_lab.name}-end") as lab:
        host = lab.host("short-1")
        lab.artifacts()
        process = lab.endpoint("redis").process
        inspect = ("podman", "inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}")
        volumes = run(*inspect, host.container).split()
        cable = f"bdlab{lab.gateway.split('.')[2]}a"
        assert cable in run("ip", "-brief", "link")
    assert podman_knows(lab.name) == ""
    assert not process.is_running()
    assert not lab.folder.exists()
    assert len(volumes) == 3
    assert not set(volumes) & set(run("podman", "volume", "ls", "--quiet").split())
    assert cable not in run("ip", "-brief", "link")


def test_stopping_twice_is_harmless(real_lab: Lab):
    lab = Lab.start(f"{real_lab.name}-two")
    lab.stop()
    lab.stop()


def test_a_lab_is_removed_after_an_error(real_lab: Lab):
    name = f"{real_lab.name}-err"
    with pytest.raises(ValueError, match="broken test"), Lab.start(name):
        raise ValueError("broken test")
    assert state.find(name) is None


def test_the_next_start_removes_what_a_killed_owner_left(real_lab: Lab):
    name = f"{real_lab.name}-dead"
    command = [sys.executable, "-c", DIES, name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
    assert podman_knows(name)
    assert Path(f"/proc/{server}").exists()
    with pytest.raises(LabError, match=f"No lab {name} is running"):
        Lab.attach(name)
    with Lab.start(name) as lab:
        assert lab.find_hosts() == []
        assert not _is_redis(server)
    assert podman_knows(name) == ""


def _is_redis(pid: int) -> bool:
    """A zombie that nobody collects has no command line."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.exists() and b"redis" in path.read_bytes()
