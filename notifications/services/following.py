"""What became of a notice that somebody waits for, and which receivers can be named."""

from beidou.base.models import Notice
from beidou.base.notices import Fate
from beidou.base.sentences import Sentence
from notifications.models import Delivery, Receiver
from notifications.services.matching import may_hear, sight_of

Status = Delivery.Status


def may_be_told(receiver: str, cluster_id: int) -> bool:
    """Whether there is such a receiver, switched on, whose team may hear of the cluster."""
    rows = Receiver.objects.filter(name=receiver, enabled=True).values_list("team_id", flat=True)
    return any(
        may_hear(team, sight_of([team]), cluster_id=cluster_id, team_id=None) for team in rows
    )


def fate_of(key: str) -> Fate:
    notice = Notice.objects.filter(key=key).first()
    if notice is None:
        return Fate(is_over=True, why=Sentence("The notice is gone, or could not be written."))
    if notice.routed_at is None:
        return Fate(why=Sentence("it still waits for the messenger"))
    rows = list(
        Delivery.objects.filter(followed=notice)
        .select_related("receiver")
        .order_by("pk")
        .defer("receiver__secret", "receiver__service_url")
    )
    arrived = tuple(row.receiver.name for row in rows if row.status == Status.SENT)
    if arrived or any(row.status != Status.GIVEN_UP for row in rows):
        errors = [row.last_error for row in rows if row.last_error]
        return Fate(arrived=arrived, why=errors[0] if errors else "")
    if not rows:
        return Fate(is_over=True, why=Sentence("No rule tells this to anybody."))
    return Fate(is_over=True, why=rows[0].last_error)
