"""Entry points of the clock and of the workers."""

from events.services import alerting, archiving, reasons, restoring, retention


def forget_old() -> int:
    restoring.go_on()
    return retention.forget_old() + alerting.forget_old()


def look_for_alerts() -> int:
    return alerting.look_at_all()


def learn_reasons() -> int:
    return reasons.learn()


def archive_old() -> int:
    return archiving.archive_old()


def restore(key: int) -> None:
    restoring.run(key)


def forget_clusters() -> int:
    return retention.forget_clusters()
