"""The effective request of a pod, by the rules of the scheduler."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.drivers.pod_resources import PodResources, RawPodSpec, effective_resources


def container(cpu: str = "", memory: str = "", limit: str = "", **more: Any) -> dict[str, Any]:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"resources": {"requests": requests, "limits": {"cpu": limit} if limit else {}}, **more}


def sidecar(cpu: str) -> dict[str, Any]:
    return container(cpu, restartPolicy="Always")


def effective(**spec: Any) -> PodResources:
    return effective_resources(msgspec.convert(spec, RawPodSpec))


def test_containers_are_summed_up():
    pod = effective(containers=[container("100m", "1Gi"), container("250m", "1Mi")])
    assert pod.cpu_request_millicores == 350
    assert pod.memory_request_bytes == 2**30 + 2**20


def test_a_larger_init_container_decides():
    pod = effective(containers=[container("100m")], initContainers=[container("1")])
    assert pod.cpu_request_millicores == 1000


def test_a_smaller_init_container_costs_nothing():
    pod = effective(containers=[container("100m")], initContainers=[container("50m")] * 3)
    assert pod.cpu_request_millicores == 100


def test_sidecars_run_beside_the_containers():
    pod = effective(containers=[container("100m")], initContainers=[sidecar("30m"), sidecar("20m")])
    assert pod.cpu_request_millicores == 150


def test_an_init_container_runs_beside_the_sidecars_started_before_it_only():
    spec = [sidecar("100m"), container("500m"), sidecar("300m")]
    pod = effective(containers=[container("50m")], initContainers=spec)
    assert pod.cpu_request_millicores == 600


def test_the_overhead_of_the_runtime_class_is_added():
    pod = effective(containers=[container("100m")], overhead={"cpu": "250m", "memory": "120Mi"})
    assert pod.cpu_request_millicores == 350
    assert pod.memory_request_bytes == 120 * 2**20


def test_the_overhead_makes_no_limit_where_there_is_none():
    pod = effective(containers=[container("100m")], overhead={"cpu": "250m"})
    assert pod.cpu_limit_millicores == 0


def test_the_overhead_is_added_to_a_limit():
    pod = effective(containers=[container("100m", limit="1")], overhead={"cpu": "250m"})
    assert pod.cpu_limit_millicores == 1250


def test_a_request_of_the_pod_itself_replaces_the_sum_of_that_resource():
    pod = effective(
        containers=[container("100m", "1Gi")], resources={"requests": {"cpu": "2"}, "limits": None}
    )
    assert pod.cpu_request_millicores == 2000
    assert pod.memory_request_bytes == 2**30


def test_a_pod_that_asks_for_nothing_has_nothing():
    pod = effective(containers=[{"resources": {}}, {}], initContainers=None)
    assert pod == PodResources(
        cpu_request_millicores=0,
        memory_request_bytes=0,
        cpu_limit_millicores=0,
        memory_limit_bytes=0,
    )


def test_an_unreadable_request_is_refused():
    with pytest.raises(ValueError, match="'much' is not a Kubernetes quantity"):
        effective(containers=[container("much")])


@given(
    st.lists(st.integers(0, 4000), max_size=4),
    st.lists(st.tuples(st.booleans(), st.integers(0, 4000)), max_size=5),
)
def test_the_effective_request_covers_every_moment_of_the_pod(
    main: list[int], init: list[tuple[bool, int]]
):
    pod = effective(
        containers=[container(f"{cpu}m") for cpu in main],
        initContainers=[
            sidecar(f"{cpu}m") if stays else container(f"{cpu}m") for stays, cpu in init
        ],
    )
    moments, sidecars = [], 0
    for stays, cpu in init:
        sidecars += cpu if stays else 0
        moments.append(sidecars if stays else sidecars + cpu)
    moments.append(sidecars + sum(main))
    assert pod.cpu_request_millicores == max(moments)
