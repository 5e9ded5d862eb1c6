"""How far the creation of a control plane has come, by the files of the host and its API server."""

import pytest

from tests.operations.ansible.host_code import load_file
from tests.operations.ansible.made_up_host import MadeUpHost


@pytest.fixture
def module():
    return load_file("library/control_plane_state.py")


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path / "host")


@pytest.fixture
def kubectl(tmp_path):
    """A kubectl that prints this and ends like that."""

    def make(text="", code=0):
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\nprintf '%s' '{text}'\nexit {code}\n")
        program.chmod(0o755)
        return str(program)

    return make


def make_whole(module, host):
    for path in module.WHOLE:
        host.write(path)


def test_a_delivered_host_has_none(module, host, kubectl):
    host.folder("/etc/kubernetes/manifests")
    assert module.look(host.files, kubectl(), 0) == "none"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/admin.conf",
        "/etc/kubernetes/manifests/etcd.yaml",
    ],
)
def test_what_an_interrupted_creation_left_is_partial(module, host, kubectl, path):
    host.write(path)
    assert module.look(host.files, kubectl("daemonset.apps/kube-proxy"), 0) == "partial"


def test_it_is_created_when_the_last_thing_is_there(module, host, kubectl):
    make_whole(module, host)
    assert module.look(host.files, kubectl("daemonset.apps/kube-proxy"), 0) == "created"


def test_without_the_last_thing_it_is_partial(module, host, kubectl):
    make_whole(module, host)
    assert module.look(host.files, kubectl(""), 0) == "partial"


def test_an_api_server_that_does_not_answer_in_time_is_none_to_go_on_with(module, host, kubectl):
    make_whole(module, host)
    assert module.look(host.files, kubectl(code=1), -1) == "partial"
