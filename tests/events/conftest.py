"""A fake API server and the cluster adopted from it, as the tests of clusters have them; whole
objects of events as the store keeps them; and every event store there is."""

import os
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beidou.base import config
from clusters.models import Cluster
from events.collector import attached
from events.services.stores import chosen, embedded
from lab import Lab
from tests.clusters.conftest import adopted, kube  # noqa: F401  fixtures
from tests.clusters.test_collector_process import serve
from tests.events.stores import OnServer, Stored
from tests.fakes.kube_api import FakeKubeApi, Stream

STORES = [
    "embedded",
    pytest.param("elasticsearch", marks=pytest.mark.lab),
    pytest.param("opensearch", marks=pytest.mark.lab),
]


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, str]]:
    """Addresses of the lab's own servers by product."""
    with Lab.start(f"event-stores-{os.getpid()}") as lab:
        yield {"elasticsearch": lab.elasticsearch(), "opensearch": lab.opensearch()}


@pytest.fixture(params=STORES)
def store(request, settings, db) -> Iterator[Stored]:
    """The store that the settings name, with nothing in it."""
    if request.param == "embedded":
        settings.EVENT_STORE = None
        yield Stored(chosen.store())
        return
    url = request.getfixturevalue("servers")[request.param]
    prefix = f"t{uuid.uuid4().hex[:12]}"
    settings.EVENT_STORE = config.parse_event_store_url(f"{request.param}+{url}/{prefix}")
    on_server = OnServer(chosen.store())
    yield on_server
    on_server.remove()
    chosen.of.cache_clear()


@pytest.fixture
def packed() -> Callable[[bytes], bytes]:
    return lambda content: zlib.compress(content, 1)


@pytest.fixture
def huge(packed: Callable[[bytes], bytes]) -> bytes:
    """A few KiB that stand for more than is taken."""
    return packed(b'"' + b"x" * embedded.OBJECT_MAX_BYTES + b'"')


@pytest.fixture
def watched(
    kube: FakeKubeApi,  # noqa: F811
    adopted: Cluster,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> Cluster:
    """The adopted cluster, and collectors that do at once what they do every few seconds."""
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(attached, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(attached, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(attached, "FIRST_PAUSE_SECONDS", 0.05)
    serve(kube, Stream())
    return adopted
