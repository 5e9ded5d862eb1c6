"""The live page in a real browser: all of it without a reload."""

import json
import re
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import expect

from operations.models import Attempt, MachineStep, Operation
from operations.services import output
from tests import factories
from tests.operations.portal import until


def path(operation):
    return f"/operations/operation/{operation.pk}/change/"


def status(page):
    return page.locator("#op-status")


@pytest.fixture
def unloaded():
    """Marks a page, to prove that it was never loaded again."""

    def mark(page):
        page.evaluate("window.isTheSame = true")
        return lambda: page.evaluate("window.isTheSame === true")

    return mark


def test_the_page_follows_the_operation_without_reload(
    worker, begin, operator, open_page, unloaded
):
    operation = begin()
    page = open_page(operator, path(operation))
    is_same = unloaded(page)
    expect(status(page)).to_contain_text("Running")
    expect(page.locator('[data-step][aria-current="step"]')).to_contain_text("first")
    expect(page.locator("#op-log")).to_contain_text("first works")
    worker.let_go("first")
    expect(page.locator('[data-step][aria-current="step"]')).to_contain_text("second")
    worker.let_go("second")
    expect(status(page)).to_contain_text("Succeeded")
    expect(page.locator("#op-count")).to_have_text("3 of 3 machines")
    expect(page.locator("#op-log")).to_contain_text("second works")
    assert is_same()


def test_it_is_right_again_after_the_portal_was_away(
    worker, begin, operator, open_page, portal, unloaded
):
    operation = begin()
    page = open_page(operator, path(operation))
    is_same = unloaded(page)
    expect(page.locator("#op-log")).to_contain_text("first works")
    portal.stop()
    expect(page.locator("#op-stream")).to_have_text("Reconnecting …")
    worker.let_go("first")
    until(lambda: output.last_line(operation.pk) >= 8, "output was written while nobody listened")
    portal.start()
    expect(page.locator("#op-stream")).to_have_text("Live")
    expect(page.locator('[data-step][aria-current="step"]')).to_contain_text("second")
    worker.let_go("second")
    expect(status(page)).to_contain_text("Succeeded")
    last = output.last_line(operation.pk)
    expect(page.locator(f'#op-log [data-number="{last}"]')).to_be_visible()
    numbers = page.eval_on_selector_all(
        "#op-log [data-number]", "rows => rows.map(row => Number(row.dataset.number))"
    )
    assert numbers == list(range(1, last + 1))
    assert is_same()


def test_two_people_watching_see_the_same(worker, begin, operator, viewer, open_page):
    operation = begin()
    first = open_page(operator, path(operation))
    second = open_page(viewer, path(operation))
    for page in (first, second):
        expect(status(page)).to_contain_text("Running")
    first.get_by_role("button", name="Cancel").click()
    first.locator("#op-dialog-reason").fill("wrong machines")
    first.locator("#op-dialog-go").click()
    for page in (first, second):
        expect(status(page)).to_contain_text("Canceled")
    assert first.locator("#op-log").inner_text() == second.locator("#op-log").inner_text()
    operation.refresh_from_db()
    assert operation.status_changes.filter(reason="wrong machines").exists()


def test_a_viewer_has_no_buttons(worker, toy, begin, viewer, open_page, machines):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    page = open_page(viewer, path(operation))
    worker.let_go("first")
    worker.let_go("second")
    expect(status(page)).to_contain_text("Partly failed")
    expect(page.locator("#op-trouble")).to_be_visible()
    expect(page.locator("#op button", has_text="Retry")).to_have_count(0)
    expect(page.locator("[data-verb]")).to_have_count(0)


def test_for_a_stranger_there_is_no_such_page(begin, toy, stranger, open_page):
    page = open_page(stranger, path(begin()))
    assert page.locator("#op").count() == 0


def test_a_late_step_says_so_and_promises_nothing(
    worker, begin, toy, machines, operator, open_page
):
    earlier = begin(machines=machines[:1])
    hour_ago = timezone.now() - timedelta(hours=1)
    for step in earlier.steps.all():
        step.attempts.create(
            number=1,
            holder="test",
            outcome=Attempt.Outcome.DONE,
            started_at=hour_ago,
            finished_at=hour_ago + timedelta(minutes=5),
        )
    Operation.objects.filter(pk=earlier.pk).update(status=Operation.Status.SUCCEEDED)
    operation = begin(machines=machines[1:])
    until(lambda: Attempt.objects.filter(step__operation=operation).exists(), "it runs")
    page = open_page(operator, path(operation))
    expect(page.locator("#op-left")).to_have_text(re.compile(r"^about (9|10) m \d+ s left$"))
    Attempt.objects.filter(step__operation=operation).update(started_at=hour_ago)
    page.reload()
    expect(page.locator("#op-left")).to_have_text("longer than usual")


def test_pause_and_resume_from_the_page(worker, begin, operator, open_page):
    operation = begin()
    page = open_page(operator, path(operation))
    page.get_by_role("button", name="Pause").click()
    expect(status(page)).to_contain_text("Paused")
    worker.let_go("first")
    expect(page.locator("[data-step]").first).to_contain_text("Succeeded")
    expect(page.locator("[data-step]").nth(1)).to_contain_text("Waiting")
    page.get_by_role("button", name="Resume").click()
    worker.let_go("second")
    expect(status(page)).to_contain_text("Succeeded")


def test_what_failed_is_shown_first_and_is_retried_from_there(
    worker, toy, begin, operator, open_page, machines
):
    toy.failing = {("first", machines[1].address)}
    operation = begin()
    page = open_page(operator, path(operation))
    worker.let_go("first")
    worker.let_go("second")
    trouble = page.locator("#op-trouble")
    expect(trouble).to_contain_text("10.5.0.2")
    expect(trouble.get_by_role("cell", name="broken", exact=True)).to_be_visible()
    expect(status(page)).to_contain_text("Partly failed")
    toy.failing = set()
    trouble.get_by_role("button", name="Retry 10.5.0.2").click()
    page.locator("#op-dialog-go").click()
    expect(status(page)).to_contain_text("Succeeded")
    expect(trouble).to_be_hidden()
    assert MachineStep.objects.filter(step__operation=operation, attempt=2).count() == 2


def test_skipping_asks_for_a_reason_first(worker, toy, begin, operator, open_page, machines):
    toy.failing = {("first", machines[1].address)}
    operation = begin()
    page = open_page(operator, path(operation))
    worker.let_go("first")
    worker.let_go("second")
    page.locator("#op-trouble").get_by_role("button", name="Skip").click()
    page.locator("#op-dialog-go").click()
    expect(page.locator("#op-dialog")).to_be_visible()
    page.locator("#op-dialog-reason").fill("checked by hand")
    page.locator("#op-dialog-go").click()
    expect(status(page)).to_contain_text("Succeeded")
    assert MachineStep.objects.filter(message__contains="checked by hand").count() == 1


def test_a_refusal_is_shown_in_the_dialog(worker, begin, operator, open_page, operators):
    operation = begin()
    page = open_page(operator, path(operation))
    page.get_by_role("button", name="Cancel").click()
    operator.groups.clear()
    page.locator("#op-dialog-go").click()
    expect(page.locator("#op-dialog-error")).to_be_visible()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.RUNNING


def test_a_retry_by_somebody_else_is_seen_on_an_ended_page(
    worker, toy, begin, operator, viewer, open_page, machines
):
    toy.failing = {("first", machine.address) for machine in machines}
    operation = begin()
    watching = open_page(viewer, path(operation))
    worker.let_go("first")
    worker.let_go("second")
    expect(watching.locator("#op-stream")).to_have_text("Ended")
    toy.failing = set()
    acting = open_page(operator, path(operation))
    acting.locator("[data-verb=retry]").click()
    acting.locator("#op-dialog-go").click()
    expect(status(acting)).to_contain_text("Succeeded")
    expect(status(watching)).to_contain_text("Succeeded", timeout=25_000)


def test_output_is_filtered_by_machine_and_by_failure(
    worker, toy, begin, operator, open_page, machines
):
    toy.failing = {("first", machines[2].address)}
    operation = begin()
    page = open_page(operator, path(operation))
    worker.let_go("first")
    worker.let_go("second")
    expect(status(page)).to_contain_text("Partly failed")
    names = page.locator("#op-log .op-line b")
    page.locator("#op-only-failed").check()
    expect(names.filter(has_text="spare-1")).to_have_count(0)
    assert set(names.all_inner_texts()) == {"spare-3"}
    page.locator("#op-of").select_option(label="10.5.0.1 · spare-1")
    expect(names.filter(has_text="spare-3")).to_have_count(0)
    assert set(names.all_inner_texts()) == {"spare-1"}
    with page.expect_download() as download:
        page.locator("#op-download").click()
    text = download.value.path().read_text()
    assert "spare-1" in text
    assert "spare-3" not in text


def test_a_hundred_machines_and_a_hundred_thousand_lines_stay_usable(
    toy, begin, worker, operator, operators, open_page, cluster_a
):
    many = [factories.make_machine(f"10.6.0.{n}", owner_team=operators) for n in range(1, 101)]
    wait = toy.during

    def talk(run):
        if run.step_name == "first":
            for number in range(1000):
                for target in run.targets:
                    run.say(f"line {number}", target=target)
        wait(run)

    toy.during = talk
    operation = begin(machines=many)
    page = open_page(operator, path(operation))
    until(lambda: output.last_line(operation.pk) >= 100_000, "100,000 lines", seconds=120)
    last = output.last_line(operation.pk)
    expect(page.locator(f'#op-log [data-number="{last}"]')).to_be_visible(timeout=60_000)
    assert page.locator("#op-matrix tr").count() == 100
    assert page.evaluate("document.querySelectorAll('#op-log .op-line').length") <= 2000
    frame = page.evaluate(
        """() => new Promise(done => { const began = performance.now();
        document.getElementById('op-find').value = '10.6.0.7';
        document.getElementById('op-find').dispatchEvent(new Event('input'));
        requestAnimationFrame(() => done(performance.now() - began)); })"""
    )
    assert frame < 500
    page.locator("#op-log").evaluate("log => { log.scrollTop = 0; }")
    expect(page.locator("#op-follow")).to_have_attribute("aria-pressed", "false")
    oldest = page.locator("#op-log .op-line").first
    before = int(oldest.get_attribute("data-number"))
    page.locator("#op-log").evaluate(
        "log => { log.scrollTop = 0; log.dispatchEvent(new Event('scroll')); }"
    )
    until(lambda: int(oldest.get_attribute("data-number")) < before, "older lines")
    assert page.evaluate("document.querySelectorAll('#op-log .op-line').length") <= 2000
    worker.let_go("first")
    worker.let_go("second")


def test_whoever_was_signed_out_is_told_so_with_a_way_back(worker, begin, operator, open_page):
    operation = begin()
    page = open_page(operator, path(operation))
    expect(status(page)).to_contain_text("Running")
    Session.objects.all().delete()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#op-dialog-go").click()
    expect(page.locator("#op-dialog-error")).to_have_text("You have been signed out.")
    page.locator("#op-dialog-close").click()
    page.locator("#op-tab-evidence").click()
    expect(page.locator("#op-evidence")).to_have_text("You have been signed out.")
    page.get_by_role("link", name="Sign in again").click()
    page.locator("input[name=username]").fill("operator")
    page.locator("input[name=password]").fill("pw")
    page.get_by_role("button", name="Log in").click()
    expect(status(page)).to_contain_text("Running")


def test_a_button_pressed_twice_starts_one_operation(
    worker, operator, open_page, cluster_a, machines
):
    page = open_page(operator, f"/operations/start/?kind=Toy&cluster={cluster_a.pk}")
    page.locator("textarea[name=machines]").fill("10.5.0.1")
    page.locator("button[name=step][value=plan]").click()
    page.locator("button[value=start]").evaluate("button => { button.click(); button.click(); }")
    expect(status(page)).to_contain_text("Running")
    assert Operation.objects.count() == 1


def test_tabs_work_by_keyboard(worker, begin, operator, open_page):
    operation = begin()
    page = open_page(operator, path(operation))
    page.locator("#op-tab-machines").focus()
    for name in ("output", "attempts", "evidence", "audit"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#op-tab-{name}")).to_have_attribute("aria-selected", "true")
        expect(page.locator(f"#op-{name}")).to_be_visible()
    expect(page.locator("#op-audit")).to_contain_text("Waiting → Running")


def test_it_fits_a_phone(worker, begin, operator, open_page):
    page = open_page(operator, path(begin()), viewport={"width": 390, "height": 800})
    expect(status(page)).to_be_visible()
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]


def test_from_the_form_to_the_live_page(worker, operator, open_page, cluster_a, machines):
    page = open_page(operator, f"/operations/start/?kind=Toy&cluster={cluster_a.pk}")
    page.locator("#op-pick-find").fill("spare-1")
    page.locator("#op-pick-all").click()
    expect(page.locator("textarea[name=machines]")).to_have_value("10.5.0.1")
    page.locator("button[name=step][value=plan]").click()
    page.get_by_role("button", name="Start with 1 machine").click()
    expect(status(page)).to_contain_text("Running")
    data = json.loads(page.locator("#op-data").text_content())
    assert len(data["snapshot"]["machines"]) == 1


def test_the_time_that_it_lay_failed_is_no_work(worker, begin, operator, open_page):
    operation = begin()
    worker.let_go("first")
    worker.let_go("second")
    until(lambda: Operation.objects.filter(status="succeeded").exists(), "it succeeded")
    hours = timezone.now() - timedelta(hours=2)
    Operation.objects.filter(pk=operation.pk).update(started_at=hours)
    page = open_page(operator, path(operation))
    expect(page.locator("#op-elapsed")).to_have_text(re.compile(r"took \d+ s, 2 h 0 m from start"))
