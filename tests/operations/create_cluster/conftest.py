"""People who may create clusters, free machines of theirs, and a wish that is in order."""

import pytest

from clusters.services.adoption import Details
from operations.services.create_cluster import Wish
from tests import factories

SOURCE = "https://files.example"


@pytest.fixture
def makers(db):
    """A team that may add clusters."""
    team = factories.make_team("makers")
    factories.give(team, "clusters.add_cluster")
    return team


@pytest.fixture
def maker(makers):
    return factories.make_user("maker", teams=(makers,))


@pytest.fixture
def free(makers):
    """Three machines that nothing speaks against."""
    credential = factories.make_credential("ssh")
    return [
        factories.make_machine(
            owner_team=makers,
            credential=credential,
            host_key="ssh-ed25519 AAAA",
            hostname=f"free-{number}",
        )
        for number in range(1, 4)
    ]


@pytest.fixture
def wish(makers, free):
    def make(**values):
        params = {"kubernetes_version": "v1.36.3", **values.pop("params", {})}
        return Wish(
            **{
                "details": Details(name="fresh", team=makers),
                "machines": free,
                "roles": {free[0].pk: "ControlPlane"},
                "params": params,
                "settings": {"artifact_source": SOURCE},
                **values,
            }
        )

    return make
