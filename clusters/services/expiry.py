"""What ends soon: credentials of the portal at clusters, and certificates of API servers."""

from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce, Least
from django.utils import timezone

from clusters.models import Cluster

SOON = timedelta(days=30)


def expiring(within: timedelta = SOON, *, now: datetime | None = None) -> QuerySet[Cluster]:
    """Clusters whose credential or server certificate ends within the time, soonest first.

    Each row has ``credential_expires_at`` beside ``server_certificate_expires_at``; either may be
    None or later.  Already ended ones are included.
    """
    limit = (now or timezone.now()) + within
    # Each stands in for the other, because LEAST with a NULL differs between databases.
    credential, server = F("credential__expires_at"), F("server_certificate_expires_at")
    return (
        Cluster.objects.annotate(credential_expires_at=F("credential__expires_at"))
        .filter(Q(credential__expires_at__lte=limit) | Q(server_certificate_expires_at__lte=limit))
        .order_by(Least(Coalesce(credential, server), Coalesce(server, credential)), "name")
    )
