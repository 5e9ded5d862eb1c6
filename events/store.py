"""What every event store can do; which one is used is a setting."""

from collections.abc import Sequence
from typing import Protocol

from events.drivers.kube_events import Record


class Store(Protocol):
    def write(self, cluster_id: int, records: Sequence[Record]) -> None:
        """Keep the records of one cluster; again or in another order, it comes to the same.

        TemporaryError when the store cannot now, and then nothing need be kept of it.
        """
