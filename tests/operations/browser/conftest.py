"""Real Chromium before the real server; steps of the toy kind wait until the test lets them go."""

import threading
from pathlib import Path

import pytest
from django.db import connection
from django_q.models import OrmQ
from playwright.sync_api import expect

from operations.models import Operation
from operations.services import start
from tests import factories
from tests.operations.portal import END_SECONDS, Portal, session_of
from tests.operations.toy import toy_kind

expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.django_db(transaction=True))


@pytest.fixture
def portal(transactional_db):
    running = Portal()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def open_page(chromium, portal):
    """``open_page(user, path)``: a page of a signed-in browser; errors of scripts fail the test."""
    contexts, problems = [], []

    def open_it(user, path, **options):
        context = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        context.add_cookies(
            [{"name": "beidou_session", "value": session_of(user), "url": portal.url}]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{portal.url}{path}")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert problems == []


class Worker:
    """A worker thread, and gates at which the toy's steps wait: ``let_go("first")``."""

    def __init__(self, script):
        self.script = script
        self.gates = {"first": threading.Event(), "second": threading.Event()}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        script.during = self._wait

    def _wait(self, run):
        for target in run.targets:
            run.say(f"{run.step_name} works", target=target)
        run.output.flush()
        gate = self.gates[run.step_name]
        while not gate.wait(0.05):
            run.stop_if_asked()

    def _work(self):
        while not self.stopped.wait(0.05):
            row = OrmQ.objects.order_by("id").first()
            if row is None:
                continue
            task = row.task
            row.delete()
            module, name = task["func"].rsplit(".", 1)
            getattr(__import__(module, fromlist=[name]), name)(*task["args"])
        connection.close()

    def let_go(self, step):
        self.gates[step].set()

    def stop(self):
        for gate in self.gates.values():
            gate.set()
        self.stopped.set()
        self.thread.join(timeout=END_SECONDS)
        assert not self.thread.is_alive()  # it would write while the tables are emptied


@pytest.fixture
def toy(transactional_db):
    with toy_kind() as script:
        yield script


@pytest.fixture
def worker(toy):
    running = Worker(toy)
    running.thread.start()
    yield running
    running.stop()


@pytest.fixture
def machines(cluster_a, operators):
    return [
        factories.make_machine(f"10.5.0.{n}", hostname=f"spare-{n}", owner_team=operators)
        for n in (1, 2, 3)
    ]


@pytest.fixture
def begin(toy, cluster_a, machines, operator):
    def start_it(**values) -> Operation:
        return start.start_operation(
            **{
                "kind": "Toy",
                "cluster": cluster_a,
                "machines": machines,
                "acting_user": operator,
                **values,
            }
        )

    return start_it
