"""What a pod asks of its node, computed as the scheduler and ``kubectl describe node`` do.

A pod's effective request is not the sum over its containers: init containers run one after the
other before them, restartable init containers (sidecars) run beside everything that follows, a
request on the pod itself replaces the sum, and the runtime class adds its overhead.
"""

from dataclasses import dataclass

import msgspec

from clusters.drivers import quantity


class RawResources(msgspec.Struct, frozen=True, gc=False):
    requests: dict[str, str] | None = None
    limits: dict[str, str] | None = None


class RawContainer(msgspec.Struct, frozen=True, gc=False):
    resources: RawResources | None = None
    restart_policy: str | None = msgspec.field(default=None, name="restartPolicy")


class RawPodSpec(msgspec.Struct, frozen=True, gc=False):
    node_name: str | None = msgspec.field(default=None, name="nodeName")
    containers: list[RawContainer] | None = None
    init_containers: list[RawContainer] | None = msgspec.field(default=None, name="initContainers")
    resources: RawResources | None = None
    overhead: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodResources:
    """Millicores and bytes; a limit of 0 means that there is none."""

    cpu_request_millicores: int
    memory_request_bytes: int
    cpu_limit_millicores: int
    memory_limit_bytes: int


def effective_resources(spec: RawPodSpec) -> PodResources:
    """Requests and limits of the whole pod."""
    return PodResources(
        cpu_request_millicores=_effective(spec, "cpu", is_limit=False),
        memory_request_bytes=_effective(spec, "memory", is_limit=False),
        cpu_limit_millicores=_effective(spec, "cpu", is_limit=True),
        memory_limit_bytes=_effective(spec, "memory", is_limit=True),
    )


def effective_requests(spec: RawPodSpec) -> dict[str, int]:
    """All that the whole pod asks for, devices too: cpu in millicores, others in their unit."""
    tables = [item.resources for item in (*(spec.containers or ()), *(spec.init_containers or ()))]
    names = {name for table in (*tables, spec.resources) for name in _table(table, is_limit=False)}
    return {
        name: _effective(spec, name, is_limit=False)
        for name in sorted({*names, *(spec.overhead or {})})
    }


def _effective(spec: RawPodSpec, resource: str, *, is_limit: bool) -> int:
    """The rules of Kubernetes' ``PodRequests`` and ``PodLimits`` for one resource."""
    running = sum(_value(item.resources, resource, is_limit) for item in spec.containers or ())
    sidecars = peak = 0
    for item in spec.init_containers or ():
        value = _value(item.resources, resource, is_limit)
        if item.restart_policy == "Always":
            sidecars += value
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + value)
    total = max(running + sidecars, peak)
    if _table(spec.resources, is_limit).get(resource) is not None:
        total = _value(spec.resources, resource, is_limit)
    overhead = _parse(resource, (spec.overhead or {}).get(resource))
    # Without a limit there is nothing that the overhead could be added to.
    return total + overhead if total or not is_limit else 0


def _table(resources: RawResources | None, is_limit: bool) -> dict[str, str]:
    if resources is None:
        return {}
    return (resources.limits if is_limit else resources.requests) or {}


def _value(resources: RawResources | None, resource: str, is_limit: bool) -> int:
    return _parse(resource, _table(resources, is_limit).get(resource))


def _parse(resource: str, text: str | None) -> int:
    if text is None:
        return 0
    return quantity.millicores(text) if resource == "cpu" else quantity.units(text)
