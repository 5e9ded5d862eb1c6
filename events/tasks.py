"""Entry points of the clock."""

from events.services import retention


def forget_old() -> int:
    return retention.forget_old()


def forget_clusters() -> int:
    return retention.forget_clusters()
