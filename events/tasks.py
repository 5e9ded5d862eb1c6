"""Entry points of the clock."""

from events.services import alerting, reasons, retention


def forget_old() -> int:
    return retention.forget_old() + alerting.forget_old()


def look_for_alerts() -> int:
    return alerting.look_at_all()


def learn_reasons() -> int:
    return reasons.learn()


def forget_clusters() -> int:
    return retention.forget_clusters()
