"""What the pages of clusters, nodes and machines say of their events: the way to them."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext as _

from beidou.base.page_head.lines import Line
from clusters.models import Cluster, Node
from machines.models import Machine


def of_cluster(cluster: Cluster, user: Any) -> Iterable[Line]:
    """Whoever sees the cluster sees its events."""
    if cluster.is_watched:
        yield _line(cluster=cluster.pk)


def of_node(node: Node, user: Any) -> Iterable[Line]:
    yield _line(cluster=node.cluster_id, node=node.name)


def of_machine(machine: Machine, user: Any) -> Iterable[Line]:
    """Those of its node; a machine with a cluster is seen by those alone who see the cluster."""
    if machine.cluster_id is not None and machine.node is not None:
        yield _line(cluster=machine.cluster_id, node=machine.node.name)


def _line(**chosen: object) -> Line:
    url = f"{reverse('admin:events_event_changelist')}?{urlencode(chosen)}"
    return Line(label=_("Events"), shown=_("Last 24 hours"), url=url)
