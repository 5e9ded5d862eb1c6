"""Operations of the toy kind, and a queue that is run by hand."""

import pytest
from django_q.models import OrmQ

from operations.models import Operation
from operations.services import start
from tests import factories
from tests.fakes.ssh_server import SshServer, new_key, private_text
from tests.operations.toy import toy_kind


@pytest.fixture
def toy():
    with toy_kind() as script:
        yield script


@pytest.fixture
def machines(cluster_a, operators):
    return [factories.make_machine(owner_team=operators) for _ in range(3)]


@pytest.fixture
def begin(cluster_a, machines, operator, django_capture_on_commit_callbacks):
    def start_it(**values) -> Operation:
        with django_capture_on_commit_callbacks(execute=True):
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


@pytest.fixture(autouse=True)
def unwatched(request, monkeypatch):
    """The thread that watches a step has a connection of its own: in a test that commits nothing it
    would find no step, and take the lease of one that lasts a second for lost."""
    database = request.node.get_closest_marker("django_db")
    is_committed = database is None or database.kwargs.get("transaction")
    if not is_committed and not request.node.get_closest_marker("lab"):
        monkeypatch.setattr("operations.services.run.WATCH_SECONDS", 3600.0)


@pytest.fixture
def work(django_capture_on_commit_callbacks):
    """Run what is queued until nothing is, as a worker would; ``limit`` tasks at most."""

    def run(limit: int = 100) -> int:
        done = 0
        while done < limit and (row := OrmQ.objects.order_by("id").first()) is not None:
            task = row.task
            row.delete()
            module, name = task["func"].rsplit(".", 1)
            function = getattr(__import__(module, fromlist=[name]), name)
            with django_capture_on_commit_callbacks(execute=True):
                function(*task["args"])
            done += 1
        return done

    return run


@pytest.fixture
def control(django_capture_on_commit_callbacks):
    """Call a service as a request would: with its commit hooks run."""

    def call(function, *args, **kwargs):
        with django_capture_on_commit_callbacks(execute=True):
            return function(*args, **kwargs)

    return call


@pytest.fixture
def host():
    """A host that lets root in; whatever else would be done on it is not reached here."""
    key = new_key()
    with SshServer(keys={"root": [key]}) as server:
        server.text = private_text(key)
        yield server
