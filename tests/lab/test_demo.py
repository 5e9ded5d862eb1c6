"""What ``make demo-down`` says of what it cannot take out of the portal."""

from types import SimpleNamespace

import pytest

from lab import demo
from lab.client import PortalClient, PortalError


class Client(PortalClient):
    """A portal that refuses some paths."""

    def __init__(self, refused):
        super().__init__("http://127.0.0.1:8000", "")
        self.refused = refused
        self.asked = []

    def request(self, method, path, body=None, *, timeout=60):
        self.asked.append((method, path))
        if path in self.refused:
            status, message = self.refused[path]
            raise PortalError(status, {"message": message})


@pytest.fixture
def made():
    keys = {"clusters": [1], "machines": [3, 4], "credentials": [2]}
    return SimpleNamespace(all=keys.__getitem__)


def test_it_deletes_what_the_demo_made_the_credential_last(made, capsys):
    client = Client({})
    demo._forget(client, made)
    assert client.asked == [
        ("DELETE", "clusters/1/?confirm=demo"),
        ("DELETE", "machines/3/"),
        ("DELETE", "machines/4/"),
        ("DELETE", "credentials/2/"),
    ]
    assert capsys.readouterr().out == ""


def test_what_somebody_took_away_already_is_not_left(made, capsys):
    client = Client({"clusters/1/?confirm=demo": (404, "There is no such object.")})
    demo._forget(client, made)
    assert len(client.asked) == 4
    assert capsys.readouterr().out == ""


def test_what_is_left_is_told_by_its_page_and_with_the_reason(made, capsys):
    needed = "Other objects still depend on this one: machine demo-control-1."
    demo._forget(Client({"credentials/2/": (409, needed)}), made)
    told = capsys.readouterr().out
    assert "http://127.0.0.1:8000/machines/sshcredential/2/change/" in told
    assert needed in told
