"""Systems of the site: checked when saved; their secrets go in and never come out."""

from typing import Any, Final

from django.utils.translation import gettext as _

from beidou.base import addresses, permissions, webhooks
from beidou.base.errors import InvalidInput, PermanentError
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from operations.outside.models import SiteSystem

SECRET_LEAST: Final = 16


def validate(system: SiteSystem, user: Any, *, stored: SiteSystem | None = None) -> None:
    """Raise ``InvalidInput`` naming the fields when it could not be asked.

    ``stored`` is the row as it was.
    """
    permissions.require(user, system.cluster, permissions.CHANGE)
    system.url = system.url.strip()
    fields: dict[str, str] = {}
    try:
        addresses.check(system.url, webhooks.limits())
    except InvalidInput as error:
        fields["url"] = error.message
    if system.purpose == SiteSystem.Purpose.PROMETHEUS and "?" in system.url:
        fields["url"] = _("Leave parameters (after ?) out of the address.")
    if sentence := _problem_of_secret(system, stored):
        fields["secret"] = sentence
    others = SiteSystem.objects.filter(cluster=system.cluster, purpose=system.purpose)
    if others.exclude(pk=system.pk).exists():
        fields["purpose"] = _("The cluster has a system for this already.")
    if fields:
        raise InvalidInput(" ".join(fields.values()), code="invalid_system", fields=fields)


def _problem_of_secret(system: SiteSystem, stored: SiteSystem | None) -> str:
    if system.purpose in SiteSystem.SIGNED and len(system.secret) < SECRET_LEAST:
        return _("The secret needs at least %(count)d characters.") % {"count": SECRET_LEAST}
    if "\n" in system.secret or "\r" in system.secret:
        return _("The secret is one line.")
    is_kept = stored is not None and stored.secret and stored.secret == system.secret
    if is_kept and stored is not None and addresses.is_other_host(stored.url, system.url):
        # Else whoever may edit it could have it sent to, or used for, a host of their own.
        return _("Give a new secret with the address of another host.")
    return ""


def find(cluster_id: int, purpose: str) -> SiteSystem | None:
    return SiteSystem.objects.filter(cluster=cluster_id, purpose=purpose).first()


def require(cluster: Cluster, purpose: str) -> SiteSystem:
    found = find(cluster.pk, purpose)
    if found is None:
        raise PermanentError(missing(cluster, purpose), code="no_system")
    return found


def missing(cluster: Cluster, purpose: str) -> Sentence:
    sentences = {
        SiteSystem.Purpose.NETWORK: Sentence(
            "Cluster %(cluster)s has no network system; name one under “Site systems”.",
            cluster=cluster,
        ),
        SiteSystem.Purpose.TICKETS: Sentence(
            "Cluster %(cluster)s has no ticket system; name one under “Site systems”.",
            cluster=cluster,
        ),
        SiteSystem.Purpose.PROMETHEUS: Sentence(
            "Cluster %(cluster)s has no Prometheus; name one under “Site systems”.",
            cluster=cluster,
        ),
    }
    return sentences[SiteSystem.Purpose(purpose)]
