"""Tasks over operations of the toy kind."""

import pytest
from django.utils import timezone

from clusters.models import Cluster
from operations.flows import catalog, graph, start
from operations.flows.models import AutoOperationTask
from tests import factories


@pytest.fixture
def cluster_a(cluster_a):
    """Its collector is at work."""
    Cluster.objects.filter(pk=cluster_a.pk).update(observed_at=timezone.now())
    return cluster_a


@pytest.fixture
def approver(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("approver", teams=(team,))


@pytest.fixture
def begin_task(toy, cluster_a, machines, operator, django_capture_on_commit_callbacks):
    """``begin_task("Toy", "WorkOrder", "Toy")``: steps one after the other; or a whole graph."""

    def start_it(*steps, **values) -> AutoOperationTask:
        specs = (
            graph.in_order(catalog.spec(name) for name in steps)
            if steps and isinstance(steps[0], str)
            else list(steps)
        )
        with django_capture_on_commit_callbacks(execute=True):
            return start.start_task(
                **{
                    "specs": specs,
                    "cluster": cluster_a,
                    "machines": machines,
                    "acting_user": operator,
                    **values,
                }
            )

    return start_it


@pytest.fixture
def steps_of():
    """Key -> status of a task's steps, as they are now."""

    def read(task) -> dict[str, str]:
        return dict(task.steps.order_by("position").values_list("key", "status"))

    return read
