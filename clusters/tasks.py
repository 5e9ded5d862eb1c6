"""Entry points of the clock."""

from clusters.services import news


def tell_health() -> int:
    return news.tell_health()


def tell_expiry() -> int:
    return news.tell_expiry()
