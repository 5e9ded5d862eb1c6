"""A host that is a real SSH server in this process, and a credential that opens it."""

from collections.abc import Iterator

import asyncssh
import pytest

from machines.drivers import ssh
from machines.models import Machine, SshCredential
from tests import factories
from tests.fakes.ssh_server import SshServer, new_key, private_text


@pytest.fixture(scope="session")
def user_key() -> asyncssh.SSHKey:
    return new_key()


@pytest.fixture
def ssh_server(user_key: asyncssh.SSHKey) -> Iterator[SshServer]:
    with SshServer(keys={"root": [user_key], "tester": [user_key]}) as running:
        yield running


@pytest.fixture
def ssh_target(ssh_server: SshServer, user_key: asyncssh.SSHKey) -> ssh.Target:
    return ssh.Target(
        address=ssh_server.address,
        port=ssh_server.port,
        private_key=private_text(user_key),
        host_key=ssh_server.host_key,
    )


@pytest.fixture
def ssh_credential(db: None, ssh_server: SshServer, user_key: asyncssh.SSHKey) -> SshCredential:
    """A credential that opens the server of this test."""
    return factories.make_credential(
        password="", private_key=private_text(user_key), port=ssh_server.port
    )


@pytest.fixture
def ssh_machine(ssh_server: SshServer, ssh_credential: SshCredential) -> Machine:
    """The server of this test as a machine nobody has talked to yet."""
    return factories.make_machine(
        ssh_server.address,
        hostname="",
        credential=ssh_credential,
        state=Machine.State.DISCOVERED,
    )
