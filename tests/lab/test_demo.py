"""What ``make demo-down`` says of what it cannot take out of the portal."""

from types import SimpleNamespace

import pytest

from lab import demo
from lab.client import PortalClient, PortalError

TASKS = "auto-operation-tasks/?cluster=1&active=true"
OPERATIONS = "operations/?cluster=1&active=true"


class Client(PortalClient):
    """A portal that refuses some paths and has some lists, each answer of which is given once; the
    last one is kept."""

    def __init__(self, refused, lists=()):
        super().__init__("http://127.0.0.1:8000", "")
        self.refused = refused
        self.lists = {path: list(answers) for path, answers in dict(lists).items()}
        self.asked = []

    def request(self, method, path, body=None, *, timeout=60):
        self.asked.append((method, path))
        if path in self.refused:
            status, message = self.refused[path]
            raise PortalError(status, {"message": message})
        if method == "GET":
            answers = self.lists.get(path, [[]])
            return {"results": answers.pop(0) if len(answers) > 1 else answers[0]}
        return None

    def posted(self):
        return [path for method, path in self.asked if method == "POST"]


def row(key, *actions):
    return {"id": key, "actions": list(actions)}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(demo.time, "sleep", lambda seconds: None)


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


def test_a_task_that_waits_is_canceled_and_its_end_waited_for(made, capsys):
    ending = [[row(7, "cancel", "pause")], [row(7)], []]
    client = Client({}, {TASKS: ending, OPERATIONS: [[row(9, "cancel")], []]})
    demo._end_what_runs(client, made)
    assert client.posted() == ["auto-operation-tasks/7/cancel/", "operations/9/cancel/"]
    assert client.asked[-2:] == [("GET", TASKS), ("GET", OPERATIONS)]
    assert len(client.asked) == 2 * 3 + 2
    assert capsys.readouterr().out == ""


def test_where_nothing_runs_nothing_is_canceled(made):
    client = Client({})
    demo._end_what_runs(client, made)
    assert client.asked == [("GET", TASKS), ("GET", OPERATIONS)]


def test_what_ended_before_it_could_be_canceled_is_no_mistake(made, capsys):
    gone = {"auto-operation-tasks/7/cancel/": (409, "It is canceled already.")}
    demo._end_what_runs(Client(gone, {TASKS: [[row(7, "cancel")], []]}), made)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("refused", [{}, {"auto-operation-tasks/7/cancel/": (403, "Not yours.")}])
def test_what_cannot_be_ended_is_told_and_stops_nothing(refused, made, capsys):
    client = Client(refused, {TASKS: [[row(7, "cancel")]]})
    demo._end_what_runs(client, made, seconds=0)
    told = capsys.readouterr().out
    assert "has not ended" in told
    assert ("Not yours." in told) == bool(refused)
