"""The messenger as it runs: a companion of the workers that survives errors and ends when asked."""

import threading

import pytest
from django.db import connections

from beidou.base import companions
from notifications import process
from notifications.models import Delivery
from notifications.services import messenger as messengers
from notifications.services import routing
from notifications.services.messenger import Messenger
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_worker_program_runs_it_beside_the_workers():
    assert companions.COMPANIONS["messenger"] is process.main


@pytest.fixture
def running():
    """A messenger in a thread, with a database connection of its own."""
    stop = threading.Event()

    def run() -> None:
        Messenger().run(stop)
        connections.close_all()

    thread = threading.Thread(target=run)
    yield thread
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def wait_for(condition) -> None:
    for _look in range(600):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen within 30 s")


def test_it_sends_what_is_published_while_it_runs(running, mail_server):
    factories.make_rule(factories.make_receiver())
    running.start()
    factories.make_notice("the cluster is away")
    wait_for(lambda: mail_server.mails)
    wait_for(lambda: Delivery.objects.filter(status="sent").exists())


def test_an_error_does_not_end_it(running, mail_server, monkeypatch, caplog):
    monkeypatch.setattr(messengers, "PAUSE_SECONDS", 0)
    good, failed = routing.route, threading.Event()

    def broken_once() -> int:
        if not failed.is_set():
            failed.set()
            raise ConnectionError("the database is away")
        return good()

    monkeypatch.setattr(messengers.routing, "route", broken_once)
    factories.make_rule(factories.make_receiver())
    factories.make_notice()
    running.start()
    wait_for(lambda: mail_server.mails)
    assert "the database is away" in caplog.text
