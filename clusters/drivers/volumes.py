"""Volumes that are bound to nodes or zones."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from clusters.drivers.objects import Resource
from clusters.drivers.placement import NodeTerm, RawNodeTerms, node_terms

_ZONES = {
    "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
"""Labels by which older volumes name their place, and what newer nodes call it."""

_SEVERAL = "__"  # between the zones of a volume that is in several


class _Metadata(msgspec.Struct, frozen=True):
    labels: dict[str, str] | None = None


class _VolumeNodes(msgspec.Struct, frozen=True):
    required: RawNodeTerms | None = None


class _ClaimRef(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""


class _VolumeSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_affinity: _VolumeNodes | None = None
    claim_ref: _ClaimRef | None = None


class _PersistentVolume(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _VolumeSpec = _VolumeSpec()


@dataclass(frozen=True, slots=True)
class BoundVolume:
    """Where the volume of a claim can be reached from; no terms and no zones: from everywhere."""

    namespace: str
    claim: str
    node_terms: tuple[NodeTerm, ...] = ()
    zones: tuple[tuple[str, frozenset[str]], ...] = ()

    def is_reached_from(self, name: str, labels: Mapping[str, str]) -> bool:
        if self.node_terms and not any(term.matches(name, labels) for term in self.node_terms):
            return False
        if not any(key in labels for key in _ZONES):
            return True  # as the scheduler has it: a node without a zone is in each
        return all(labels.get(key, labels.get(_ZONES[key])) in values for key, values in self.zones)


def _bound_volume(raw: _PersistentVolume) -> BoundVolume:
    claim = raw.spec.claim_ref or _ClaimRef()
    nodes = raw.spec.node_affinity
    return BoundVolume(
        claim.namespace,
        claim.name,
        node_terms(nodes.required) if nodes else (),
        tuple(
            (key, frozenset(value.split(_SEVERAL)))
            for key, value in (raw.metadata.labels or {}).items()
            if key in _ZONES
        ),
    )


VOLUMES: Resource[BoundVolume] = Resource(
    "/api/v1/persistentvolumes", _PersistentVolume, _bound_volume, title="volumes"
)
