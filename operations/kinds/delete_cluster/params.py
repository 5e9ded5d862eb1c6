"""What is typed, what is given up, and that somebody else agrees."""

import re

from pydantic import BaseModel, ConfigDict, Field


class DeleteClusterParams(BaseModel):
    """``confirm`` is the name of the cluster; ``give_up`` names machines that are lost, and nodes
    that are no machines here."""

    model_config = ConfigDict(extra="forbid")

    confirm: str = Field(max_length=63)
    give_up: str = Field(
        default="",
        max_length=1000,
        description="Hostnames, addresses or nodes, separated by commas or white space.",
    )
    approved: bool = Field(
        default=False, description="Only on a retry, by somebody else with the right to approve."
    )

    @property
    def given_up(self) -> frozenset[str]:
        return frozenset(part.lower() for part in re.split(r"[\s,;]+", self.give_up) if part)


ANSWERS = frozenset({"give_up", "approved"})
APPROVALS = frozenset({"approved"})
