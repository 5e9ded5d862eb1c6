"""The wait of pod_routes.yml, with a made-up ``ip``; the service itself is proved in the lab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from operations.drivers import ansible
from operations.kinds.network import routes
from tests.operations.ansible.playbooks import ANSIBLE

IP = """\
#!/bin/sh
case "$*" in
*-6*) ;;
*)
    echo '10.244.2.0/24 via 10.0.0.2 dev eth0'
    exit ;;
esac
echo x >> {folder}/asked
[ "$(wc -l < {folder}/asked)" -lt {after} ] ||
    echo 'fd00:2::/64 via fd00::2 dev eth0 metric 1024 pref medium'
"""
IPV4, IPV6 = {"10.244.2.0/24": "10.0.0.2"}, {"fd00:2::/64": "fd00::2"}


@pytest.fixture
def wait(tmp_path):
    """What the last task of the playbook printed, when ``ip`` knows the routes of IPv6 only when
    it was asked for them ``after`` times."""

    def play(wanted, *, after, retries):
        program = tmp_path / "ip"
        program.write_text(IP.format(folder=tmp_path, after=after))
        program.chmod(0o755)
        (book,) = yaml.safe_load((ANSIBLE / "playbooks" / "pod_routes.yml").read_text())
        tasks = [task for task in book["tasks"] if "ansible.builtin.import_role" not in task]
        for task in tasks:
            task |= {"delay": 0, "retries": retries} if "until" in task else {}
        last = {"ansible.builtin.copy": {"dest": f"{tmp_path}/shown", "content": "{{ shown }}"}}
        name = tasks[-1].setdefault("register", "last")
        tasks.append({"vars": {"shown": f"{{{{ {name}.stdout }}}}"}, **last})
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "wanted_routes": wanted,
        }
        (tmp_path / "hosts.yml").write_text(ansible.as_inventory({"h": host}))
        programs = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.yml", "play.yml"],
            cwd=tmp_path,
            env={**os.environ, "PATH": programs, "ANSIBLE_HOME": str(tmp_path / "home")},
            capture_output=True,
            check=True,
        )
        return routes.there((tmp_path / "shown").read_text())

    return play


@pytest.mark.parametrize("wanted", [IPV4 | IPV6, IPV6])
def test_routes_of_each_family_are_waited_for(wait, wanted):
    assert wait(wanted, after=4, retries=20) == IPV4 | IPV6


def test_routes_that_do_not_come_are_for_the_portal_to_tell(wait):
    assert wait(IPV4 | IPV6, after=1000, retries=2) == IPV4
