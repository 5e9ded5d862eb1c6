"""Operations over the API: started, read, steered, and refused with the right number."""

import pytest

from operations.models import Operation
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/operations/"


def wish(cluster, machines, **values):
    return {
        "kind": "Toy",
        "cluster": cluster.name,
        "machines": [str(machine.address) for machine in machines],
        **values,
    }


def test_starting_answers_202_and_where_the_operation_is(toy, api, operator, cluster_a, machines):
    answer = api(operator).post(URL, wish(cluster_a, machines))
    assert answer.status_code == 202
    assert answer["Location"] == answer.json()["url"]
    assert api(operator).get(answer["Location"]).json()["machines_total"] == 3


def test_machines_may_be_named_by_key_hostname_range_and_role(
    toy, api, operator, cluster_a, machines
):
    first, second, third = machines
    asked = [first.pk, second.hostname, {"address": third.address, "role": "Compute"}]
    answer = api(operator).post(URL, wish(cluster_a, []) | {"machines": asked})
    assert answer.status_code == 202
    assert answer.json()["machines_total"] == 3


def test_a_dry_run_shows_the_plan_and_starts_nothing(toy, api, operator, cluster_a, machines):
    faulty = factories.make_machine(state="faulty", owner_team=operator.groups.get())
    answer = api(operator).post(URL, wish(cluster_a, [*machines, faulty], dry_run=True))
    plan = answer.json()
    assert answer.status_code == 200
    assert len(plan["ready"]) == 3
    assert plan["blocked"][0]["reason"] == "it is Faulty; must be Available"
    assert not Operation.objects.exists()


def test_a_misspelt_field_starts_nothing(toy, api, operator, cluster_a, machines):
    answer = api(operator).post(URL, wish(cluster_a, machines, dryrun=True))
    assert answer.status_code == 400
    assert answer.json()["fields"] == {"dryrun": "There is no such field."}
    assert not Operation.objects.exists()


def test_a_blocked_machine_refuses_the_whole_unless_it_may_be_left_out(
    toy, api, operator, cluster_a, machines
):
    faulty = factories.make_machine(state="faulty", owner_team=operator.groups.get())
    asked = wish(cluster_a, [*machines, faulty])
    refused = api(operator).post(URL, asked)
    assert refused.status_code == 400
    assert faulty.address in refused.json()["fields"]
    answer = api(operator).post(URL, asked | {"leave_out_blocked": True})
    assert answer.json()["machines_total"] == 3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "Nothing"}, "kind"),
        ({"cluster": "nowhere"}, "cluster"),
        ({"machines": ["10.99.99.99"]}, "machines[0]"),
        ({"machines": []}, "machines"),
        ({"params": {"size": "many"}}, "params.size"),
        ({"forks": 0}, "forks"),
        ({"name": "-bad-"}, "name"),
    ],
)
def test_bad_input_is_400_and_names_the_field(
    change, field, toy, api, operator, cluster_a, machines
):
    answer = api(operator).post(URL, wish(cluster_a, machines) | change)
    assert answer.status_code == 400
    assert field in answer.json()["fields"]


def test_a_name_that_is_taken_is_409(toy, api, operator, cluster_a, machines):
    client = api(operator)
    client.post(URL, wish(cluster_a, machines[:1], name="mine"))
    assert client.post(URL, wish(cluster_a, machines[1:], name="mine")).status_code == 409


def test_a_machine_under_change_is_refused_with_the_operation_that_holds_it(
    toy, api, operator, cluster_a, machines
):
    client = api(operator)
    client.post(URL, wish(cluster_a, machines, name="first-one"))
    answer = client.post(URL, wish(cluster_a, machines))
    assert answer.status_code == 400
    assert "first-one" in answer.json()["message"]


def test_a_viewer_may_not_start(toy, api, viewer, cluster_a, machines):
    factories.make_machine(owner_team=viewer.groups.get(), address="10.3.0.1")
    asked = wish(cluster_a, []) | {"machines": ["10.3.0.1"]}
    assert api(viewer).post(URL, asked).status_code == 403


def test_to_a_stranger_the_cluster_does_not_exist(toy, api, stranger, cluster_a, machines):
    answer = api(stranger).post(URL, wish(cluster_a, machines))
    assert answer.status_code == 400
    assert "cluster" in answer.json()["fields"]


def test_nobody_is_sent_away_with_401(api, cluster_a, machines):
    assert api().post(URL, wish(cluster_a, machines)).status_code == 401


def test_a_stranger_sees_no_operation(begin, toy, api, stranger):
    operation = begin()
    assert api(stranger).get(URL).json()["results"] == []
    for part in ("", "output/", "output/download/", "events/", "live/"):
        assert api(stranger).get(f"{URL}{operation.pk}/{part}").status_code == 404


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry", "skip"])
def test_a_viewer_sees_but_may_not_steer(verb, begin, toy, api, viewer):
    operation = begin()
    assert api(viewer).get(f"{URL}{operation.pk}/").status_code == 200
    assert api(viewer).post(f"{URL}{operation.pk}/{verb}/").status_code == 403


def test_the_answer_tells_steps_machines_cells_checks_and_proof(begin, toy, work, api, viewer):
    operation = begin()
    work()
    answer = api(viewer).get(f"{URL}{operation.pk}/").json()
    assert [step["status"] for step in answer["steps"]] == ["succeeded", "succeeded"]
    cell = answer["machines"][0]["steps"][1]
    assert cell["step"] == "second"
    assert cell["evidence"] == {"seen": "second"}
    assert answer["attempts"][0]["outcome"] == "done"
    assert answer["estimate"]["earlier_runs"] == 1
    assert answer["remaining_seconds"] is None


def test_without_earlier_runs_there_is_no_estimate(begin, toy, api, operator):
    answer = api(operator).get(f"{URL}{begin().pk}/").json()
    assert answer["estimate"] is None
    assert answer["remaining_seconds"] is None


def test_cancel_before_the_start_is_immediate(begin, toy, api, operator):
    operation = begin()
    answer = api(operator).post(f"{URL}{operation.pk}/cancel/", {"reason": "a mistake"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "canceled"


def test_what_has_ended_cannot_be_canceled(begin, toy, work, api, operator):
    operation = begin()
    work()
    answer = api(operator).post(f"{URL}{operation.pk}/cancel/")
    assert answer.status_code == 409
    assert answer.json()["code"] == "wrong_state"


def test_pause_and_resume(begin, toy, work, api, operator):
    operation = begin()
    work(limit=1)
    client = api(operator)
    assert client.post(f"{URL}{operation.pk}/pause/").json()["status"] == "paused"
    assert client.post(f"{URL}{operation.pk}/resume/").json()["status"] == "running"
    assert client.post(f"{URL}{operation.pk}/resume/").status_code == 409


def test_retry_of_one_machine_by_its_address(begin, toy, work, api, operator, machines):
    toy.failing = {("first", machine.address) for machine in machines}
    operation = begin()
    work()
    answer = api(operator).post(
        f"{URL}{operation.pk}/retry/", {"machines": [machines[0].address], "reason": "mended"}
    )
    assert answer.status_code == 202
    states = dict(operation.machines.values_list("address", "state"))
    assert list(states.values()).count("waiting") == 1


def test_retry_of_a_machine_of_another_operation_is_400(begin, toy, work, api, operator, machines):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    answer = api(operator).post(f"{URL}{operation.pk}/retry/", {"machines": ["10.9.9.9"]})
    assert answer.status_code == 400
    assert "machines[0]" in answer.json()["fields"]


def test_skip_needs_a_reason(begin, toy, work, api, operator, machines):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    client, url = api(operator), f"{URL}{operation.pk}/skip/"
    asked = {"step": "first", "machines": [machines[0].address]}
    assert client.post(url, asked).status_code == 400
    assert client.post(url, asked | {"reason": "known and harmless"}).status_code == 202


def test_operations_are_found_by_cluster_kind_status_and_machine(
    begin, toy, api, operator, cluster_a, machines
):
    begin(machines=machines[:1])
    client = api(operator)
    for query, count in [
        ({"cluster": cluster_a.name}, 1),
        ({"cluster": cluster_a.pk}, 1),
        ({"cluster": "other"}, 0),
        ({"kind": "Toy"}, 1),
        ({"kind": "ScaleUp"}, 0),
        ({"status": "waiting"}, 1),
        ({"status": "failed"}, 0),
        ({"active": "true"}, 1),
        ({"machine": machines[0].address}, 1),
        ({"machine": machines[1].pk}, 0),
        ({"created_after": "2020-01-01T00:00:00Z"}, 1),
        ({"created_before": "2020-01-01T00:00:00Z"}, 0),
    ]:
        assert len(client.get(URL, query).json()["results"]) == count, query


@pytest.mark.parametrize("name", ["cluster", "machine"])
def test_a_key_beyond_all_bounds_finds_nothing(name, begin, toy, api, operator):
    begin()
    answer = api(operator).get(URL, {name: "9" * 30})
    assert answer.status_code == 200
    assert answer.json()["results"] == []


def test_numbers_beyond_all_bounds_in_the_body_or_cursor_are_no_error_of_ours(
    begin, toy, api, operator, cluster_a
):
    client, operation = api(operator), begin()
    huge = int("9" * 30)
    assert client.get(f"{URL}{operation.pk}/output/", {"after": huge}).status_code == 200
    assert client.get(f"{URL}{operation.pk}/output/", {"before": huge}).status_code == 200
    assert client.get(f"{URL}{huge}/").status_code == 404
    assert client.get(f"{URL}?cursor=nonsense").status_code == 404
    asked = {"kind": "Toy", "cluster": cluster_a.name, "machines": [huge]}
    assert client.post(URL, asked).status_code == 400
    asked = {"kind": "Toy", "cluster": huge, "machines": [1]}
    assert client.post(URL, asked).status_code == 400


def test_an_unknown_status_in_a_filter_is_400(api, operator):
    assert api(operator).get(URL, {"status": "asleep"}).status_code == 400


def test_the_list_costs_the_same_however_many_there_are(
    begin, toy, api, operator, machines, django_assert_max_num_queries
):
    for machine in machines:
        begin(machines=[machine])
    with django_assert_max_num_queries(6):
        assert len(api(operator).get(URL).json()["results"]) == 3


def test_the_kinds_are_told_with_the_schema_of_their_parameters(toy, api, stranger):
    kinds = {kind["name"]: kind for kind in api(stranger).get("/api/v1/operation-kinds/").json()}
    assert "ScaleUp" in kinds
    assert kinds["Toy"]["params"]["properties"]["size"]["type"] == "integer"
    assert [step["name"] for step in kinds["Toy"]["steps"]] == ["first", "second"]


def test_the_kinds_are_for_the_signed_in(api):
    assert api().get("/api/v1/operation-kinds/").status_code == 401
