"""Entry points of the clock."""

from notifications.services import retention


def forget_old() -> int:
    return retention.forget_old()
