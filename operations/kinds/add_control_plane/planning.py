"""What is known to be in the way before anything is contacted."""

from collections.abc import Sequence

from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import scale_up
from operations.kinds.add_control_plane.params import AddControlPlaneParams
from operations.kinds.base import Blocker
from operations.kinds.control_planes import alone, keeper


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: AddControlPlaneParams
) -> list[Blocker]:
    joining = {machine.pk for machine in machines}
    return [
        *alone.blockers(cluster),
        *keeper.blockers(cluster, but=joining),
        *scale_up.blockers(cluster, machines, scale_up.ScaleUpParams()),
    ]
