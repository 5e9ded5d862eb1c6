"""Output in pieces: with cursors in both directions, filters, and as a file."""

import pytest

from beidou.base.errors import InvalidInput
from operations.models import Attempt, OutputChunk
from operations.services import lines, output, references

pytestmark = pytest.mark.django_db


@pytest.fixture
def told(toy, begin, work, machines):
    """An operation with 30 lines per machine and 90 more; the first machine has failed."""

    def talk(run):
        for number in range(30):
            run.say(f"general {run.step_name} {number}")
            for target in run.targets:
                run.say(f"line {number}", target=target)
        run.output.flush()

    toy.during = talk
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    return operation


def url(operation, part="output/"):
    return f"/api/v1/operations/{operation.pk}/{part}"


def test_a_reader_with_the_cursor_gets_every_line_once_in_order(told, api, viewer):
    client, after, numbers = api(viewer), 0, []
    while True:
        piece = client.get(url(told), {"after": after, "limit": 17}).json()
        if not piece["lines"]:
            break
        numbers += [line["number"] for line in piece["lines"]]
        after = piece["after"]
    assert numbers == list(range(1, output.last_line(told.pk) + 1))


def test_backwards_gives_the_newest_lines_in_their_order(told, api, viewer):
    last = output.last_line(told.pk)
    piece = api(viewer).get(url(told), {"before": 0, "limit": 10}).json()
    assert [line["number"] for line in piece["lines"]] == list(range(last - 9, last + 1))
    older = api(viewer).get(url(told), {"before": piece["before"], "limit": 5}).json()
    assert older["lines"][-1]["number"] == last - 10


@pytest.mark.parametrize("name", ["after", "before", "limit", "machine"])
@pytest.mark.parametrize("odd", ["²", "٣", "-1", "x"])
def test_what_is_no_number_is_refused_at_its_name(name, odd, told, api, viewer):
    answer = api(viewer).get(url(told), {name: odd})
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {name})


def test_a_cursor_of_thousands_of_digits_is_behind_the_last_line(told, api, viewer):
    answer = api(viewer).get(url(told), {"after": "9" * 5000})
    assert (answer.status_code, answer.json()["lines"]) == (200, [])


@pytest.mark.parametrize("seen", ["²", "9" * 5000])
def test_an_odd_last_event_id_is_no_error(seen, told, api, viewer):
    answer = api(viewer).get(url(told, "events/"), headers={"Last-Event-ID": seen})
    assert answer.status_code == 200


@pytest.mark.parametrize("odd", ["²", "9" * 5000])
def test_an_odd_key_is_no_machine_of_the_operation(odd, told):
    with pytest.raises(InvalidInput, match="is not a machine of"):
        references.members_of(told, [odd])


def test_the_lines_of_one_machine(told, api, viewer):
    member = told.machines.first()
    piece = api(viewer).get(url(told), {"machine": member.pk}).json()
    assert {line["machine"] for line in piece["lines"]} == {member.pk}


def test_the_lines_of_failed_machines_only(told, api, viewer):
    piece = api(viewer).get(url(told), {"failed": "true"}).json()
    assert {line["machine"] for line in piece["lines"]} == {told.machines.first().pk}


def test_a_filter_that_drops_every_line_still_moves_the_cursor_on(told):
    nothing = lines.Wanted(machines=frozenset({0}), levels=frozenset({"no such level"}))
    piece = lines.forwards(told, after=0, limit=10, wanted=nothing)
    assert piece.lines == []
    assert piece.after == piece.last > 0


def test_cursors_stay_right_when_the_output_is_packed(told):
    before = lines.backwards(told, before=50, limit=20)
    for attempt in Attempt.objects.all():
        output.pack(attempt)
    assert not OutputChunk.objects.filter(packed=None).exists()
    assert lines.backwards(told, before=50, limit=20) == before


def test_a_machine_of_another_operation_is_400(told, api, viewer):
    answer = api(viewer).get(url(told), {"machine": 999_999})
    assert answer.status_code == 400
    assert "machine" in answer.json()["fields"]


@pytest.mark.parametrize("name", ["after", "before", "limit", "machine"])
def test_a_cursor_that_is_no_number_is_400(name, told, api, viewer):
    answer = api(viewer).get(url(told), {name: "-1"})
    assert answer.status_code == 400
    assert name in answer.json()["fields"]


def test_the_file_holds_every_line_with_time_machine_and_level(told, api, viewer):
    answer = api(viewer).get(url(told, "output/download/"))
    text = b"".join(answer.streaming_content).decode()
    assert answer["Content-Disposition"] == f'attachment; filename="{told.name}.txt"'
    assert text.count("\n") == output.last_line(told.pk)
    assert f"{told.machines.first().hostname}" in text
    assert "error    it is broken" in text


def test_the_file_of_one_machine_has_its_lines_only(told, api, viewer):
    member = told.machines.first()
    answer = api(viewer).get(url(told, "output/download/"), {"machine": member.pk})
    text = b"".join(answer.streaming_content).decode()
    assert text
    assert all(member.hostname in line for line in text.splitlines())
