"""Clusters, nodes and grants as people work with them."""

from clusters.admin.cluster import ClusterAdmin
from clusters.admin.grant import ClusterGrantAdmin
from clusters.admin.node import NodeAdmin

__all__ = ["ClusterAdmin", "ClusterGrantAdmin", "NodeAdmin"]
