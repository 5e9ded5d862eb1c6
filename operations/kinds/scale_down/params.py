"""What may be chosen: answers to what would stop it, and limits of the drain."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LIMIT_MINUTES = 220  # a step may last four hours


class ScaleDownParams(BaseModel):
    """Answers to what would stop it, and limits of the drain."""

    model_config = ConfigDict(extra="forbid")

    ask_first: bool = False
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
    force_unreachable: bool = False
    pods_at_once: int = Field(default=30, ge=1, le=200)
    limit_minutes: int = Field(default=30, ge=1, le=LIMIT_MINUTES)


ANSWERS = frozenset(ScaleDownParams.model_fields)
APPROVALS = frozenset({"delete_blocked"})
