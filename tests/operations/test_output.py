"""Output is complete, in order, and readable from any line on."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operations.models import OutputChunk
from operations.services import engine, lines, output

pytestmark = pytest.mark.django_db


@pytest.fixture
def attempt(toy, begin, work):
    operation = begin()
    work(limit=1)
    return engine.claim(operation.steps.get(name="first").pk)


@pytest.fixture
def writer(attempt):
    return output.OutputWriter(attempt, fence=lambda: None)


def read(attempt, *, after=0, limit=5000, **wanted):
    """The lines and the cursor to go on from."""
    piece = lines.forwards(
        attempt.step.operation, after=after, limit=limit, wanted=lines.Wanted(**wanted)
    )
    return piece.lines, piece.after


def test_lines_are_numbered_without_gaps_over_several_chunks(writer, attempt):
    for index in range(1203):
        writer.write(f"line {index}")
    writer.flush()
    assert [line.number for line in read(attempt)[0]] == list(range(1, 1204))


def test_packing_changes_nothing_for_readers(writer, attempt):
    for index in range(1500):
        writer.write(f"line {index}")
    writer.flush()
    before = read(attempt)
    output.pack(attempt)
    assert read(attempt) == before
    assert OutputChunk.objects.filter(packed=None).count() == 0


def test_reading_goes_on_after_any_line(writer, attempt):
    writer.write("\n".join(str(i) for i in range(20)))
    writer.flush()
    found, cursor = read(attempt, after=5, limit=4)
    assert [line.text for line in found] == ["5", "6", "7", "8"]
    assert cursor == 9


def test_a_filter_that_drops_everything_still_moves_on(writer, attempt):
    writer.write("quiet")
    writer.flush()
    found, cursor = read(attempt, levels=frozenset({"error"}))
    assert found == []
    assert cursor == 1


def test_lines_of_one_machine_include_those_of_all(writer, attempt):
    writer.write("for all")
    writer.write("for 7", machine=7)
    writer.write("for 8", machine=8)
    writer.flush()
    found, _ = read(attempt, machines=frozenset({0, 7}))
    assert [line.text for line in found] == ["for all", "for 7"]


def test_a_second_writer_for_the_same_lines_is_refused(writer, attempt):
    late = output.OutputWriter(attempt, fence=lambda: None)
    writer.write("first")
    writer.flush()
    late.write("late")
    with pytest.raises(Exception, match=r"(?i)unique|one_chunk_per_first_line"):
        late.flush()


def test_colours_and_endless_lines_are_tamed(writer, attempt):
    writer.write("\x1b[0;32mgreen\x1b[0m")
    writer.write("x" * 10_000)
    writer.flush()
    found, _ = read(attempt)
    assert found[0].text == "green"
    assert found[1].text.endswith("(6000 characters cut)")


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=80), max_size=20))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_comes_back_line_by_line(attempt, texts):
    OutputChunk.objects.all().delete()
    writer = output.OutputWriter(attempt, fence=lambda: None)
    for text in texts:
        writer.write(text)
    writer.flush()
    found, _ = read(attempt, limit=10_000)
    assert len(found) == sum(max(1, len(output.clean(text).splitlines())) for text in texts)
