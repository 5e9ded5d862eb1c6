"""A folder with playbooks as a site has them, read and released as an administrator does it."""

from pathlib import Path

import pytest
import yaml

from operations.models import Operation, PlaybookSource, SitePlaybook
from operations.services import playbook_sources, start
from tests import factories
from tests.fakes.ssh_server import SshServer, new_key, private_text, public_line

PLAY = """
- name: Greet
  hosts: all
  gather_facts: false
  tasks:
    - name: Say it
      ansible.builtin.debug:
        msg: "{{ greeting }} from {{ beidou_machine.hostname }}"
"""
PARAMETERS = {
    "properties": {
        "greeting": {"type": "string", "default": "hello", "maxLength": 20},
        "count": {"type": "integer", "minimum": 1, "maximum": 5},
        "token": {"type": "string", "format": "password"},
    }
}
DECLARED = {"name": "greet", "playbook": "greet.yml", "title": "Greet", "parameters": PARAMETERS}


def declaration(*playbooks, **changes):
    rows = playbooks or ({**DECLARED, **changes},)
    return yaml.safe_dump({"version": 1, "playbooks": list(rows)})


class Site:
    """The folder; ``write`` and ``declare`` change it, ``read`` and ``release`` are the
    portal's."""

    def __init__(self, folder: Path, admin) -> None:
        self.folder, self.admin = folder, admin
        self.source = PlaybookSource.objects.create(
            name="ops", kind=PlaybookSource.Kind.FOLDER, location=str(folder)
        )
        self.write("greet.yml", PLAY)
        self.declare()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def declare(self, *playbooks, **changes) -> None:
        self.write("beidou.yaml", declaration(*playbooks, **changes))

    def read(self):
        revision = playbook_sources.read(self.source.pk)
        self.source.refresh_from_db()
        return revision

    def release(self, *playbooks, **changes):
        """What is declared now, or with these changes."""
        if playbooks or changes:
            self.declare(*playbooks, **changes)
        revision = self.read()
        assert revision is not None, self.source.problem
        playbook_sources.release(revision, digest=revision.digest, acting_user=self.admin)
        self.source.refresh_from_db()
        return revision

    def offered(self):
        return list(
            SitePlaybook.objects.filter(SitePlaybook.OFFERED).values_list("name", flat=True)
        )


@pytest.fixture
def site(tmp_path, settings, admin):
    folder = tmp_path / "site"
    folder.mkdir()
    settings.PLAYBOOK_FOLDERS = [tmp_path]
    return Site(folder, admin)


@pytest.fixture
def machine(cluster_a):
    """In service in cluster A, and the portal could sign in to it."""
    return factories.make_machine(
        cluster=cluster_a,
        state="in_service",
        credential=factories.make_credential(),
        host_key=public_line(new_key()),
    )


@pytest.fixture
def begin(cluster_a, machine, operator, django_capture_on_commit_callbacks):
    """Start RunPlaybook with these parameters."""

    def start_it(machines=None, user=None, options=None, **params) -> Operation:
        with django_capture_on_commit_callbacks(execute=True):
            return start.start_operation(
                kind="RunPlaybook",
                cluster=cluster_a,
                machines=machines or [machine],
                params={"playbook": "ops/greet", **params},
                acting_user=user or operator,
                **(options or {}),
            )

    return start_it


@pytest.fixture
def hosts(cluster_a):
    """Two hosts that let root in and run commands for real: here, as whoever runs the tests."""
    key = new_key()
    servers = [SshServer(keys={"root": [key]}) for _ in range(2)]
    for number, server in enumerate(servers, start=1):
        server.address = f"127.0.0.{number}"
    with servers[0], servers[1]:
        for server in servers:
            server.text = private_text(key)
        yield servers


@pytest.fixture
def two(hosts, cluster_a):
    """Their machines."""
    return [
        factories.make_machine(
            server.address,
            hostname=f"web-{number}",
            cluster=cluster_a,
            state="in_service",
            role="ControlPlane" if number == 1 else "Compute",
            credential=factories.make_credential(
                password="", private_key=server.text, port=server.port
            ),
            host_key=server.host_key,
        )
        for number, server in enumerate(hosts, start=1)
    ]
