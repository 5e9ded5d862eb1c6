"""A collector that runs while a test does, the streams it is given, and what came of them."""

from contextlib import contextmanager

from events.models import Event, EventStream
from tests.clusters.collecting import Running
from tests.clusters.test_collector_process import FAST
from tests.fakes.kube_api import FakeKubeApi, Reply, Stream

MODERN, CORE = "/apis/events.k8s.io/v1/events", "/api/v1/events"


def listed(*events, version="1000"):
    return Reply({"metadata": {"resourceVersion": version}, "items": list(events)})


def give(api: FakeKubeApi, first: Reply, *watches: Stream, path: str = MODERN) -> None:
    """A list, and then a watch after the other; the last one stays."""
    open_ones = list(watches) or [Stream()]

    def answer(request):
        if "watch" not in request.query:
            return first
        return open_ones.pop(0) if len(open_ones) > 1 else open_ones[0]

    api.on("GET", path, answer)


def stored():
    return dict(Event.objects.values_list("uid", "count"))


def stream_of(cluster):
    return EventStream.objects.filter(cluster=cluster).first()


@contextmanager
def collecting(holder="me"):
    with Running(holder=holder, rhythm=FAST) as collector:
        yield collector
