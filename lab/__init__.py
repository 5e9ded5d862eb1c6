"""A real fleet on one machine, for tests, demo and benches; the product never imports it."""

from lab.artifacts import ArtifactServer
from lab.cluster import LabCluster
from lab.errors import LabError
from lab.fleet import Lab
from lab.hosts import Host

__all__ = ["ArtifactServer", "Host", "Lab", "LabCluster", "LabError"]
