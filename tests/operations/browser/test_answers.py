"""The dialog of *Retry* offers what may be chosen otherwise, and sends only what was changed."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from beidou.base.models import AuditEntry
from operations.kinds import scale_down
from operations.models import MachineStep, Operation, OperationMachine, Step
from tests import factories


@pytest.fixture
def failed(cluster_a, operator):
    """A ScaleDown that preCheck stopped."""
    machine = factories.make_machine(
        cluster=cluster_a,
        state="in_service",
        credential=factories.make_credential(),
        host_key="ssh-ed25519 AAAA",
    )
    operation = Operation.objects.create(
        name="scaledown-1",
        kind="ScaleDown",
        cluster=cluster_a,
        params=scale_down.ScaleDownParams().model_dump(mode="json"),
        requested_by=operator,
        requested_by_name="operator",
        status=Operation.Status.FAILED,
    )
    member = OperationMachine.objects.create(
        operation=operation, machine=machine, address=machine.address, state="failed"
    )
    for position, kind in enumerate(scale_down.SCALE_DOWN.steps, start=1):
        status = Step.Status.FAILED if position == 1 else Step.Status.WAITING
        step = Step.objects.create(
            operation=operation, position=position, name=kind.name, status=status
        )
        MachineStep.objects.create(step=step, machine=member, status=status)
    return operation


def test_a_choice_in_the_dialog_goes_with_the_retry(failed, operator, open_page):
    page = open_page(operator, reverse("admin:operations_operation_change", args=[failed.pk]))
    page.locator("button[data-verb=retry]").click()
    choices = page.locator("#op-dialog-answers")
    expect(choices).to_be_visible()
    choices.get_by_label("Give up data that pods keep on the node").check()
    choices.get_by_label("When a disruption budget blocks a pod").select_option("wait")
    choices.get_by_label("Time limit of the drain, minutes").fill("45")
    page.locator("#op-dialog-go").click()
    expect(page.locator("#op-dialog")).to_be_hidden()
    failed.refresh_from_db()
    assert failed.answers == {
        "delete_local_data": True,
        "on_blocked": "wait",
        "limit_minutes": 45,
    }
    assert AuditEntry.objects.get(verb="retry").after["answers"] == failed.answers


def test_an_approval_is_not_offered_to_who_asked(failed, operator, open_page):
    page = open_page(operator, reverse("admin:operations_operation_change", args=[failed.pk]))
    page.locator("button[data-verb=retry]").click()
    expect(page.locator("#op-dialog-answers")).to_be_visible()
    expect(page.get_by_label("Delete blocked pods past their budget")).to_have_count(0)


def test_a_cancel_offers_no_choices(failed, operator, open_page):
    Operation.objects.filter(pk=failed.pk).update(status=Operation.Status.PAUSED)
    page = open_page(operator, reverse("admin:operations_operation_change", args=[failed.pk]))
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.locator("#op-dialog")).to_be_visible()
    expect(page.locator("#op-dialog-answers")).to_be_hidden()
