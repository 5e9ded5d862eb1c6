"""A fake API server and the cluster adopted from it, as the tests of clusters have them; whole
objects of events as the store keeps them."""

import zlib
from collections.abc import Callable

import pytest

from events.services import whole
from tests.clusters.conftest import adopted, kube  # noqa: F401  fixtures


@pytest.fixture
def packed() -> Callable[[bytes], bytes]:
    return lambda content: zlib.compress(content, 1)


@pytest.fixture
def huge(packed: Callable[[bytes], bytes]) -> bytes:
    """A few KiB that stand for more than is taken."""
    return packed(b'"' + b"x" * whole.OBJECT_MAX_BYTES + b'"')
