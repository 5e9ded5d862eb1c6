"""Which notice is told to whom."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from beidou.base.models import Notice
from notifications.models import Receiver
from notifications.services.matching import Rules, told_by
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet(db):
    return factories.make_receiver("fleet")


def told(*notices: Notice) -> dict[str, list[int]]:
    names = dict(Receiver.objects.values_list("pk", "name"))
    return {
        names[key]: [notice.pk for notice in found]
        for key, found in told_by(Rules(), notices).items()
    }


def test_a_rule_of_the_fleet_without_limits_tells_everything(fleet, cluster_a):
    factories.make_rule(fleet)
    notices = [factories.make_notice(cluster=cluster_a), factories.make_notice()]
    assert told(*notices) == {"fleet": [notice.pk for notice in notices]}


def test_a_rule_tells_its_kinds_and_severities_alone(fleet):
    factories.make_rule(fleet, kinds=["cluster.unreachable"], severity="warning")
    right = factories.make_notice(severity="warning")
    assert told(
        right,
        factories.make_notice(severity="info"),
        factories.make_notice(kind="operation.failed"),
    ) == {"fleet": [right.pk]}


def test_a_rule_of_chosen_clusters_tells_of_no_other_and_of_nothing_without_one(
    fleet, cluster_a, cluster_b
):
    factories.make_rule(fleet, clusters=(cluster_a,))
    right = factories.make_notice(cluster=cluster_a)
    others = factories.make_notice(cluster=cluster_b), factories.make_notice()
    assert told(right, *others) == {"fleet": [right.pk]}


def test_a_rule_by_labels_follows_the_labels(fleet, cluster_a, cluster_b):
    cluster_a.labels = {"tier": "gold", "zone": "a"}
    cluster_a.save()
    cluster_b.labels = {"tier": "gold"}
    cluster_b.save()
    factories.make_rule(fleet, scope="labels", labels="tier=gold, zone=a")
    right, other = (factories.make_notice(cluster=each) for each in (cluster_a, cluster_b))
    assert told(right, other) == {"fleet": [right.pk]}


def test_a_rule_of_a_team_never_tells_of_clusters_that_the_team_may_not_see(
    viewers, cluster_a, cluster_b
):
    receiver = factories.make_receiver("viewers", team=viewers)
    factories.make_rule(receiver, team=viewers)
    seen = factories.make_notice(cluster=cluster_a)
    of_team = factories.make_notice(team_id=viewers.pk)
    hidden = factories.make_notice(cluster=cluster_b)
    of_nobody = factories.make_notice()
    assert told(seen, of_team, hidden, of_nobody) == {"viewers": [seen.pk, of_team.pk]}


def test_a_rule_of_the_fleet_tells_a_team_only_what_the_team_may_see(viewers, cluster_a, cluster_b):
    factories.make_rule(factories.make_receiver("viewers", team=viewers))
    seen, hidden = (factories.make_notice(cluster=each) for each in (cluster_a, cluster_b))
    assert told(seen, hidden) == {"viewers": [seen.pk]}


def test_a_rule_of_a_team_tells_no_receiver_of_others(fleet, viewers, operators, cluster_a):
    theirs = factories.make_receiver(team=operators)
    factories.make_rule(fleet, theirs, team=viewers)
    assert told(factories.make_notice(cluster=cluster_a)) == {}


def test_what_is_switched_off_tells_nothing(fleet):
    factories.make_rule(fleet, enabled=False)
    factories.make_rule(factories.make_receiver(enabled=False))
    assert told(factories.make_notice()) == {}


def test_two_rules_tell_one_receiver_once(fleet):
    factories.make_rule(fleet)
    factories.make_rule(fleet)
    notice = factories.make_notice()
    assert told(notice) == {"fleet": [notice.pk]}


def test_the_queries_do_not_grow_with_rules_receivers_and_notices(viewers, cluster_a):
    def queries(many: int) -> int:
        for _number in range(many):
            receiver = factories.make_receiver(team=viewers)
            factories.make_rule(receiver, team=viewers)
            factories.make_rule(receiver, clusters=(cluster_a,), team=viewers)
            factories.make_rule(receiver, scope="labels", labels="a=b", team=viewers)
        notices = [factories.make_notice(cluster=cluster_a) for _number in range(many)]
        with CaptureQueriesContext(connection) as captured:
            told_by(Rules(), notices)
        return len(captured)

    assert queries(2) == queries(10) <= 6
