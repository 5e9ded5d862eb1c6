"""Entry points of the queue: keys in, one service call."""

from beidou.base import context
from machines.services import facts, registration


def gather_facts(*machine_ids: int) -> dict[int, str]:
    with context.acting(actor_name="fact gathering"):
        return facts.gather(machine_ids)


def gather_stale_facts() -> int:
    with context.acting(actor_name="fact gathering"):
        return facts.request_stale()


def follow_nodes() -> dict[str, int]:
    with context.acting(actor_name="inventory"):
        return registration.follow_nodes()
