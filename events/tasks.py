"""Entry points of the clock and of the workers."""

from events.services import alerting, archiving, reasons, relabelling, restoring, retention


def forget_old() -> int:
    restoring.go_on()
    # What needs no event store comes first: it may be away.
    gone = alerting.forget_old()
    return gone + retention.forget_old()


def look_for_alerts() -> int:
    return alerting.look_at_all()


def learn_reasons() -> int:
    return reasons.learn()


def look_for_stale_labels() -> bool:
    return relabelling.go_on()


def relabel() -> int:
    return relabelling.run()


def archive_old() -> int:
    return archiving.archive_old()


def restore(key: int) -> None:
    restoring.run(key)


def forget_clusters() -> int:
    return retention.forget_clusters()
