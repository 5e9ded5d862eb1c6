"""What a pod says about where it may run, as values that decide as the scheduler does.

Only what is required: preferences keep no pod from a node.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from clusters.drivers.selectors import (
    RawRequirement,
    RawSelector,
    Requirement,
    Selector,
    requirement,
    selector,
)

ANY_ADDRESS = "0.0.0.0"  # noqa: S104  nothing is bound here
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""A label that every namespace has, with its name."""

# --- what the API answers -------------------------------------------------------------------------


class RawToleration(msgspec.Struct, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class _NodeTerm(msgspec.Struct, frozen=True, rename="camel"):
    match_expressions: list[RawRequirement] | None = None
    match_fields: list[RawRequirement] | None = None


class RawNodeTerms(msgspec.Struct, frozen=True, rename="camel"):
    node_selector_terms: list[_NodeTerm] | None = None


class _NodeAffinity(msgspec.Struct, frozen=True):
    required: RawNodeTerms | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class _PodTerm(msgspec.Struct, frozen=True, rename="camel"):
    topology_key: str = ""
    label_selector: RawSelector | None = None
    namespaces: list[str] | None = None
    namespace_selector: RawSelector | None = None


class _PodAffinity(msgspec.Struct, frozen=True):
    required: list[_PodTerm] | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class RawAffinity(msgspec.Struct, frozen=True, rename="camel"):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: _PodAffinity | None = None
    pod_anti_affinity: _PodAffinity | None = None


class RawSpread(msgspec.Struct, frozen=True, rename="camel"):
    max_skew: int = 1
    topology_key: str = ""
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: RawSelector | None = None
    match_label_keys: list[str] | None = None
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None


# --- what the product sees ------------------------------------------------------------------------


class HostPort(NamedTuple):
    protocol: str
    port: int
    address: str = ANY_ADDRESS

    def clashes(self, other: "HostPort") -> bool:
        """Every address takes the port from each single one."""
        return self[:2] == other[:2] and (
            self.address == other.address or ANY_ADDRESS in (self.address, other.address)
        )


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One alternative of a required node affinity."""

    expressions: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """A term without any condition means no node."""
        if not self.expressions and not self.fields:
            return False
        return all(item.holds(labels) for item in self.expressions) and all(
            item.holds({"metadata.name": name}) for item in self.fields
        )

    def __str__(self) -> str:
        return " and ".join(str(item) for item in (*self.expressions, *self.fields))


@dataclass(frozen=True, slots=True)
class PodTerm:
    """Pods that must (affinity) or must not (anti-affinity) share ``topology_key`` with the pod.

    Of the namespaces that are named and of those that ``namespace_selector`` selects by their
    labels; None selects no further ones.
    """

    topology_key: str
    selector: Selector | None
    namespaces: frozenset[str]
    namespace_selector: Selector | None = None

    def means(
        self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str]
    ) -> bool:
        if self.selector is None or not self.selector.matches(labels):
            return False
        if namespace in self.namespaces:
            return True
        chosen = self.namespace_selector
        return chosen is not None and chosen.matches(namespace_labels)

    @property
    def asks_for_labels(self) -> bool:
        """Whether labels of namespaces must be read to tell; their names are known anyhow."""
        chosen = self.namespace_selector
        return chosen is not None and any(
            item.key != NAMESPACE_NAME for item in chosen.requirements
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """A required topology spread constraint, with the pod's own ``matchLabelKeys`` filled in."""

    topology_key: str
    max_skew: int
    selector: Selector | None
    min_domains: int = 1
    honors_affinity: bool = True
    honors_taints: bool = False

    def counts(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod that runs is counted; the scheduler lets an empty selector count none."""
        return (
            self.selector is not None
            and bool(self.selector.requirements)
            and self.selector.matches(labels)
        )

    def means(self, labels: Mapping[str, str]) -> bool:
        """Whether the pod that is placed adds to the skew; here an empty selector means all."""
        return self.selector is not None and self.selector.matches(labels)


def tolerations(raw: Iterable[RawToleration] | None) -> tuple[Toleration, ...]:
    return tuple(
        Toleration(item.key, item.operator or "Equal", item.value, item.effect)
        for item in raw or ()
    )


def node_terms(raw: RawNodeTerms | None) -> tuple[NodeTerm, ...]:
    """Alternatives; an affinity that is there without any means no node at all."""
    if raw is None:
        return ()
    terms = tuple(
        NodeTerm(
            tuple(requirement(item) for item in term.match_expressions or ()),
            tuple(requirement(item) for item in term.match_fields or ()),
        )
        for term in raw.node_selector_terms or ()
    )
    return terms or (NodeTerm(),)


def pod_terms(raw: _PodAffinity | None, own: str) -> tuple[PodTerm, ...]:
    """``matchLabelKeys`` and ``mismatchLabelKeys`` are in the selectors already: the API server
    puts them there when a pod is created."""
    found = []
    for item in (raw.required if raw else None) or ():
        names = frozenset(item.namespaces or ())
        if not names and item.namespace_selector is None:
            names = frozenset({own})
        found.append(
            PodTerm(
                item.topology_key,
                selector(item.label_selector),
                names,
                selector(item.namespace_selector),
            )
        )
    return tuple(found)


def hard_spread(raw: Iterable[RawSpread] | None, labels: Mapping[str, str]) -> tuple[Spread, ...]:
    """The constraints that keep a pod with ``labels`` from being scheduled."""
    return tuple(
        Spread(
            topology_key=item.topology_key,
            max_skew=item.max_skew,
            selector=_with_own(selector(item.label_selector), item.match_label_keys, labels),
            min_domains=item.min_domains or 1,
            honors_affinity=item.node_affinity_policy != "Ignore",
            honors_taints=item.node_taints_policy == "Honor",
        )
        for item in raw or ()
        if item.when_unsatisfiable == "DoNotSchedule"
    )


def _with_own(
    chosen: Selector | None, keys: Iterable[str] | None, labels: Mapping[str, str]
) -> Selector | None:
    own = tuple(Requirement(key, "In", (labels[key],)) for key in keys or () if key in labels)
    if chosen is None or not own:
        return chosen
    return Selector((*chosen.requirements, *own))
