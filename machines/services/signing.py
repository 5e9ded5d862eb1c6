"""Which credential the portal signs in with at a machine: one rule for visits and operations.

A machine's own credential counts, else that of its cluster's machines.  The latter belongs to the
settings of an app above, which registers where it is found.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from django.db.models import Q

from machines.models import Machine, SshCredential

# Keys of clusters (None: all) → the credential of each that has one.
Fallback = Callable[[Collection[int] | None], Mapping[int, SshCredential]]
_fallbacks: list[Fallback] = []


def register_fallback(fallback: Fallback) -> None:
    """Let an app above say which credential clusters have for their machines, from its
    ``ready``."""
    _fallbacks[:] = [fallback]


def choose(machine: Machine, of_cluster: SshCredential | None) -> SshCredential | None:
    """The rule: the machine's own, else that of the cluster."""
    return machine.credential if machine.credential_id is not None else of_cluster


def credential_of(machine: Machine) -> SshCredential | None:
    """A machine that is in no cluster has its own or none."""
    if machine.credential_id is not None or machine.cluster_id is None:
        return machine.credential
    return choose(machine, _of_clusters([machine.cluster_id]).get(machine.cluster_id))


def by_machine(machines: Iterable[Machine]) -> dict[int, SshCredential]:
    """Key of the machine → what we sign in with there; without those where we cannot."""
    rows = list(machines)
    clusters = {row.cluster_id for row in rows if row.credential_id is None and row.cluster_id}
    known = _of_clusters(clusters) if clusters else {}
    chosen = {row.pk: choose(row, known.get(row.cluster_id or 0)) for row in rows}
    return {key: credential for key, credential in chosen.items() if credential is not None}


def has_one() -> Q:
    """Of machines: those at which we can sign in."""
    return Q(credential__isnull=False) | Q(cluster__in=list(_of_clusters(None)))


def _of_clusters(clusters: Collection[int] | None) -> dict[int, SshCredential]:
    return {key: found for each in _fallbacks for key, found in each(clusters).items()}
