"""As ``test_links``, for those whose pages lead to most; a file of its own, because it takes long
and files are what runs side by side."""

import pytest

from tests import factories
from tests.links import follow_every_link

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("who", ["auditor", "admin"])
def test_every_link_on_every_page_may_be_followed(who, cast, browser, linked_fleet):
    follow_every_link(browser(cast[who]), linked_fleet)


def test_every_link_on_every_page_of_an_owner_may_be_followed(browser, linked_fleet):
    owner = factories.make_user("owner", teams=(factories.make_team("owners"),))
    factories.grant(owner.groups.get(), linked_fleet, "owner")
    follow_every_link(browser(owner), linked_fleet)
