"""No page leads its reader to a page that is refused to them, or that is not there.

The pages are those of the navigation and of every kind of row; every address of our own found in
them is opened.  What a page shows depends on the rows, so the fleet of this test has one of each
kind, and between them all the references that cross from what one may see to what one may not.
"""

import pytest

from clusters.models import ClusterGrant
from tests.links import follow_every_link, links_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_every_link_on_every_page_may_be_followed(who, cast, browser, linked_fleet):
    follow_every_link(browser(cast[who]), linked_fleet)


def test_who_may_open_a_team_gets_a_link_to_it(admin, browser, linked_fleet):
    grant = ClusterGrant.objects.filter(cluster=linked_fleet).first()
    address = f"/clusters/clustergrant/{grant.pk}/change/"
    shown = links_of(address, browser(admin).get(address).content.decode())
    assert f"/auth/group/{grant.team_id}/change/" in shown


def test_without_a_link_the_name_stays(viewer, browser, linked_fleet):
    machine = linked_fleet.machines.exclude(owner_team=None).get()
    page = browser(viewer).get(f"/machines/machine/{machine.pk}/change/").content.decode()
    assert "foreign-key" in page
    assert "/machines/sshcredential/" + str(machine.credential_id) not in page
