"""What may be chosen: the version, how many at once, the snapshot, answers for the drain."""

from typing import Literal

from django.utils.translation import gettext
from pydantic import BaseModel, ConfigDict, Field, field_validator

from beidou.base.errors import BeidouError
from operations.kinds import versions

DRAIN_MINUTES, GATE_MINUTES = 120, 60  # a step may last four hours


class UpgradeClusterParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kubernetes_version: str = Field(max_length=40)
    wave_size: int = Field(default=1, ge=1, le=50)
    gate_minutes: int = Field(default=10, ge=1, le=GATE_MINUTES)
    snapshot: Literal["take", "skip"] = "take"
    snapshot_folder: str = Field(default="/var/backups/beidou-etcd", max_length=200)
    snapshots_kept: int = Field(default=3, ge=1, le=100)
    allow_removed_apis: bool = False
    delete_bare_pods: bool = False
    delete_local_data: bool = False
    allow_single_copy: bool = False
    allow_pending: bool = False
    on_blocked: Literal["stop", "wait"] = "stop"
    raise_owner: bool = False
    delete_blocked: bool = Field(
        default=False, description="Only on a retry, by somebody else with the right to approve."
    )
    force_delete: bool = False
    pods_at_once: int = Field(default=30, ge=1, le=200)
    limit_minutes: int = Field(default=30, ge=1, le=DRAIN_MINUTES)

    @property
    def force_unreachable(self) -> bool:
        """As the drain asks: a node that is not reached is not upgraded."""
        return False

    @field_validator("kubernetes_version")
    @classmethod
    def _is_known_version(cls, value: str) -> str:
        try:
            version = versions.canonical(value)
        except BeidouError as error:
            raise ValueError(error.message) from error
        supported = [f"1.{minor}" for minor in versions.SUPPORTED_MINORS]
        if ".".join(version.lstrip("v").split(".")[:2]) not in supported:
            raise ValueError(
                gettext("clusters are not upgraded to %(version)s here; supported are %(known)s")
                % {"version": version, "known": ", ".join(supported)}
            )
        return version

    @field_validator("snapshot_folder")
    @classmethod
    def _is_folder(cls, value: str) -> str:
        folder = value.rstrip("/")
        parts = folder.split("/")
        if not folder.startswith("/") or len(parts) < 3 or {"", ".", ".."} & set(parts[1:]):
            raise ValueError(
                gettext("“%(text)s” is no folder for snapshots; write it like /var/backups/etcd")
                % {"text": value}
            )
        return folder


ANSWERS = frozenset(UpgradeClusterParams.model_fields) - {"kubernetes_version"}
APPROVALS = frozenset({"delete_blocked"})
