"""ScaleDown: take machines out of a cluster without losing what runs there.

preCheck    reads the cluster and changes nothing: each pod and what will happen to it.  What has to
            be decided first fails the machine here, and a retry may bring the answer.
drain       cordons and evicts, honours budgets, waits for replacements.
scaleDown   resets the host with the role that CleanUp uses, then deletes the Node object.
postCheck   nothing is left on the host, the node is gone, the workloads are whole again.

One module per step; ``planning`` is what is known before anything is contacted, ``settling`` what
the steps share, ``machines`` the states of the machines, ``kind`` puts it together.
"""

from operations.kinds.scale_down.kind import SCALE_DOWN
from operations.kinds.scale_down.params import ScaleDownParams

__all__ = ["SCALE_DOWN", "ScaleDownParams"]
