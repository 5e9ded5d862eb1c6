"""A retry may answer what stopped an operation; some answers need somebody else's approval."""

import pytest
from django.urls import reverse

from beidou.base.errors import Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from beidou.base.sentences import Sentence
from operations.kinds.base import check
from operations.models import MachineStep, Operation
from operations.services import control as controls
from operations.services import manifests
from tests import factories
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db
SIZE = frozenset({"size"})


def page_of(operation):
    return reverse("admin:operations_operation_change", args=[operation.pk])


@pytest.fixture
def owner(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


@pytest.fixture
def owned_machine(cluster_a):
    return factories.make_machine(cluster=cluster_a)


@pytest.fixture
def failed(begin, work, owned_machine):
    """An operation of the toy kind that failed because of its size."""

    def make(script, **values):
        sizes = []
        script.during = lambda run: sizes.append(run.params.size)
        script.failing = {("first", owned_machine.address)}
        operation = begin(machines=[owned_machine], **values)
        work()
        operation.refresh_from_db()
        assert operation.status == Operation.Status.FAILED
        script.failing = set()
        return operation, sizes

    return make


def test_the_answer_counts_from_the_retry_on(failed, control, work, operator):
    with toy_kind(answers=SIZE) as script:
        operation, sizes = failed(script)
        control(controls.retry, operation, acting_user=operator, answers={"size": 7})
        work()
        assert sizes == [1, 7, 7]


def test_what_was_asked_for_stays_as_it_was(failed, control, operator):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        control(controls.retry, operation, acting_user=operator, answers={"size": 7})
        operation.refresh_from_db()
        assert operation.params == {"size": 1}
        assert operation.answers == {"size": 7}
        assert "size: 1" in manifests.as_manifest(operation)


def test_the_answer_is_in_the_audit_trail(failed, control, operator):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        control(controls.retry, operation, acting_user=operator, answers={"size": 7})
        entry = AuditEntry.objects.get(verb="retry")
        assert (entry.before, entry.after["answers"]) == ({"answers": {}}, {"size": 7})


def test_answers_stay_for_the_next_retry(failed, control, work, operator, owned_machine):
    with toy_kind(answers=SIZE) as script:
        operation, sizes = failed(script)
        script.failing = {("first", owned_machine.address)}
        control(controls.retry, operation, acting_user=operator, answers={"size": 7})
        work()
        control(controls.retry, operation, acting_user=operator)
        work()
        assert sizes == [1, 7, 7]


def test_a_parameter_that_is_no_answer_is_refused_by_name(failed, control, operator):
    with toy_kind() as script:
        operation, _sizes = failed(script)
        with pytest.raises(InvalidInput, match="cannot change size") as caught:
            control(controls.retry, operation, acting_user=operator, answers={"size": 7})
        assert "answers.size" in caught.value.fields
        operation.refresh_from_db()
        assert operation.status == Operation.Status.FAILED


def test_a_wrong_answer_is_refused_and_nothing_goes_on(failed, control, operator):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        with pytest.raises(InvalidInput, match="size"):
            control(controls.retry, operation, acting_user=operator, answers={"size": "big"})
        operation.refresh_from_db()
        assert (operation.status, operation.answers) == (Operation.Status.FAILED, {})


def test_an_approval_needs_the_right_to_approve(failed, control, operators, cluster_a):
    other = factories.make_user("other", teams=(operators,))
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script)
        with pytest.raises(Forbidden):
            control(controls.retry, operation, acting_user=other, answers={"size": 7})


def test_nobody_approves_what_they_sent_in_the_name_of_somebody_else(failed, control, owner):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script, sent_by=owner)
        with pytest.raises(Forbidden, match="somebody else has to approve"):
            control(controls.retry, operation, acting_user=owner, answers={"size": 7})
        operation.refresh_from_db()
        assert operation.answers == {}


def test_nobody_approves_an_operation_of_their_own(failed, control, owner):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script, acting_user=owner)
        with pytest.raises(Forbidden, match="somebody else has to approve"):
            control(controls.retry, operation, acting_user=owner, answers={"size": 7})


@pytest.fixture
def approval(api, owner):
    """Given over the API by the owner, for what they have ``seen``."""

    def give(operation, **body):
        url = f"/api/v1/operations/{operation.pk}/retry/"
        return api(owner).post(url, {"answers": {"size": 7}, **body}, format="json")

    return give


def seen_by(api, user, operation):
    return api(user).get(f"/api/v1/operations/{operation.pk}/").json()["seen"]


def test_an_approval_is_of_what_was_seen(failed, approval, api, owner):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script)
        seen = seen_by(api, owner, operation)
        assert approval(operation, seen=seen).status_code == 202


@pytest.mark.parametrize("body", [{}, {"seen": ""}])
def test_an_approval_of_what_nobody_says_to_have_seen_names_the_field(body, failed, approval):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script)
        answer = approval(operation, **body)
        assert (answer.status_code, list(answer.json()["fields"])) == (400, ["seen"])
        operation.refresh_from_db()
        assert operation.status == Operation.Status.FAILED


def test_an_approval_of_what_looks_otherwise_by_now_is_409(
    failed, approval, api, owner, operator, control, work, owned_machine
):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script)
        seen = seen_by(api, owner, operation)
        script.failing, script.asking = set(), {("first", owned_machine.address)}
        control(controls.retry, operation, acting_user=operator)
        work()
        answer = approval(operation, seen=seen)
        assert (answer.status_code, answer.json()["code"]) == (409, "changed_meanwhile")
        operation.refresh_from_db()
        assert (operation.status, operation.answers) == (Operation.Status.FAILED, {})
        assert approval(operation, seen=seen_by(api, owner, operation)).status_code == 202


def test_what_was_found_once_more_is_what_was_seen(
    failed, approval, api, owner, operator, control, work, owned_machine
):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script)
        seen = seen_by(api, owner, operation)
        script.failing = {("first", owned_machine.address)}
        control(controls.retry, operation, acting_user=operator)
        work()
        assert approval(operation, seen=seen).status_code == 202


def test_what_was_seen_is_the_same_in_every_language(failed, api, owner):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script)
        found = check("size", False, Sentence("Canceled."), "more")  # of which there are two
        MachineStep.objects.filter(status="failed").update(checks=[found])
        url = f"/api/v1/operations/{operation.pk}/"
        chinese = api(owner).get(url, headers={"Accept-Language": "zh-hans"}).json()["seen"]
        assert chinese == seen_by(api, owner, operation)


def test_where_nobody_has_to_approve_anything_nothing_need_be_seen(failed, api, operator):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        assert seen_by(api, operator, operation) == ""


def test_the_live_page_knows_what_is_seen_and_chosen_now(
    failed, browser, owner, operator, api, control, work, owned_machine
):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        script.failing = {("first", owned_machine.address)}
        control(controls.retry, operation, acting_user=operator, answers={"size": 7})
        work()
        row = browser(owner).get(page_of(operation)).context["page_data"]["snapshot"]["operation"]
        assert (row["chosen"], row["seen"]) == ({"size": 7}, "")
    with toy_kind(answers=SIZE, approvals=SIZE):
        row = browser(owner).get(page_of(operation)).context["page_data"]["snapshot"]["operation"]
        assert (row["chosen"], row["seen"]) == ({}, seen_by(api, owner, operation))


def test_an_approval_of_somebody_else_counts_for_one_retry(
    failed, control, work, owner, operator, owned_machine
):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, sizes = failed(script)
        script.failing = {("first", owned_machine.address)}
        control(controls.retry, operation, acting_user=owner, answers={"size": 7})
        work()
        script.failing = set()
        operation.refresh_from_db()
        control(controls.retry, operation, acting_user=operator)
        work()
        assert sizes == [1, 7, 1, 1]


def test_answers_come_over_the_api(failed, api, operator):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        url = f"/api/v1/operations/{operation.pk}/"
        answer = api(operator).post(f"{url}retry/", {"answers": {"size": 7}}, format="json")
        assert answer.status_code == 202
        assert api(operator).get(url).json()["answers"] == {"size": 7}


def test_a_wrong_answer_over_the_api_is_400_and_names_it(failed, api, operator):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        url = f"/api/v1/operations/{operation.pk}/retry/"
        answer = api(operator).post(url, {"answers": {"colour": "red"}}, format="json")
        assert answer.status_code == 400
        assert "answers.colour" in answer.json()["fields"]


def test_the_live_page_offers_the_answers_as_they_are_now(failed, browser, operator):
    with toy_kind(answers=SIZE) as script:
        operation, _sizes = failed(script)
        page = browser(operator).get(page_of(operation))
        (offered,) = page.context["page_data"]["answers"]
        assert (offered["name"], offered["value"]) == ("size", 1)


def test_the_live_page_offers_approvals_to_whoever_may_give_them(failed, browser, operator, owner):
    with toy_kind(answers=SIZE, approvals=SIZE) as script:
        operation, _sizes = failed(script)
        url = page_of(operation)
        assert browser(operator).get(url).context["page_data"]["answers"] == []
        (offered,) = browser(owner).get(url).context["page_data"]["answers"]
        assert offered["approval"]
