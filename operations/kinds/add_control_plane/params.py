"""What may be chosen, and what later steps read of it as of a ScaleUp's."""

from pydantic import BaseModel, ConfigDict

from operations.kinds.namespaces import Namespace


class AddControlPlaneParams(BaseModel):
    """The version is the cluster's; taints are those of the control planes it has."""

    model_config = ConfigDict(extra="forbid")

    accept_single_endpoint: bool = False
    probe_namespace: Namespace = "kube-system"

    @property
    def kubernetes_version(self) -> str:
        """Empty: the API server's."""
        return ""


ANSWERS = frozenset({"accept_single_endpoint"})
