"""What may be chosen: as for ScaleDown."""

from operations.kinds.scale_down.params import ANSWERS, APPROVALS, ScaleDownParams


class RemoveControlPlaneParams(ScaleDownParams):
    """Answers to what would stop it, and limits of the drain."""


__all__ = ["ANSWERS", "APPROVALS", "RemoveControlPlaneParams"]
