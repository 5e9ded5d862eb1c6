"""Selectors of Kubernetes as values: which labels, nodes and pods they mean, decided as it does."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec


class RawRequirement(msgspec.Struct, frozen=True):
    key: str
    operator: str
    values: list[str] | None = None


class RawSelector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: list[RawRequirement] | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label (or field): In, NotIn, Exists, DoesNotExist, Gt, Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """An operator that is not known holds for nothing, as in the scheduler."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return self._compares(value)
        return False

    def _compares(self, value: str | None) -> bool:
        try:
            found, limit = int(value or ""), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return found > limit if self.operator == "Gt" else found < limit

    def __str__(self) -> str:
        if not self.values:
            return f"{self.key} {self.operator}"
        if self.operator == "In" and len(self.values) == 1:
            return f"{self.key}={self.values[0]}"
        return f"{self.key} {self.operator} {', '.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its requirements must hold; without any it means everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.holds(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        """As the API takes it in ``labelSelector``."""
        return ",".join(_query(requirement) for requirement in self.requirements)


def selector(raw: RawSelector | None) -> Selector | None:
    """None selects nothing at all, an empty one everything."""
    if raw is None:
        return None
    equal = [Requirement(key, "In", (value,)) for key, value in (raw.match_labels or {}).items()]
    return Selector((*equal, *(requirement(item) for item in raw.match_expressions or ())))


def requirement(raw: RawRequirement) -> Requirement:
    return Requirement(raw.key, raw.operator, tuple(raw.values or ()))


def _query(item: Requirement) -> str:
    match item.operator:
        case "Exists":
            return item.key
        case "DoesNotExist":
            return f"!{item.key}"
    return f"{item.key} {item.operator.lower()} ({','.join(item.values)})"
