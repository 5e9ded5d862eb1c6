"""The command line: what it refuses, and what it tells about a running lab."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Host, Lab

ROOT = Path(__file__).parents[2]


def lab_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_command_the_usage_is_shown():
    done = lab_command()
    assert done.returncode == 2
    assert "usage: python -m lab" in done.stderr


def test_an_unknown_version_is_one_sentence_and_starts_nothing():
    done = lab_command("up", "--name", "never", "--version", "1.2")
    assert done.returncode == 1
    assert done.stderr == "lab: The lab has no Kubernetes 1.2; it has v1.36.3, v1.35.4.\n"


def test_taking_down_what_does_not_run_is_no_error():
    done = lab_command("down", "--name", "never-started")
    assert (done.returncode, done.stdout) == (0, "No lab never-started is running.\n")


def test_a_kubeconfig_of_no_lab_is_refused():
    done = lab_command("kubeconfig", "--name", "never-started")
    assert (done.returncode, done.stderr) == (1, "lab: No lab never-started is running.\n")


@pytest.mark.lab
def test_a_build_that_is_there_takes_no_time(real_lab: Lab):
    done = lab_command("build", "--only", "etcdctl")
    assert done.returncode == 0, done.stderr
    assert "etcdctl" in done.stdout


@pytest.mark.lab
def test_the_status_names_labs_with_their_hosts(real_lab: Lab, spares: list[Host]):
    labs = {lab["name"]: lab for lab in json.loads(lab_command("status", "--json").stdout)}
    hosts = {host["name"]: host for host in labs[real_lab.name]["hosts"]}
    assert hosts["spare-1"]["host_key"] == spares[0].host_key
