"""A step that asks somebody who may approve; what happens to the answer is ``flows.control``.

Exactly what was asked for is kept with the question (``flows.approval``).  An approval that still
holds is not asked for again when the step is done again.
"""

from datetime import timedelta

from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from clusters.models import Cluster
from operations.flows import approval, news, tickets
from operations.flows.base import Flow, StepKind, register
from operations.flows.models import TaskStep, WorkOrder
from operations.outside import systems
from operations.outside.models import SiteRequest, SiteSystem

Status = TaskStep.Status
LIMIT_HOURS = 72


class WorkOrderParams(BaseModel):
    """``hours`` is the time limit of the decision; ``ticket``: the site's ticket system decides."""

    model_config = ConfigDict(extra="forbid")

    hours: int = Field(default=LIMIT_HOURS, ge=1, le=24 * 90)
    text: str = Field(default="", max_length=500, description="What the approver should look at.")
    ticket: bool = False


def check(cluster: Cluster, params: WorkOrderParams) -> None:
    if params.ticket and systems.find(cluster.pk, SiteSystem.Purpose.TICKETS) is None:
        raise InvalidInput(systems.missing(cluster, SiteSystem.Purpose.TICKETS), code="no_system")


def begin(flow: Flow, step: TaskStep, params: WorkOrderParams) -> None:
    valid = step.orders.filter(status__in=WorkOrder.VALID).first()
    plan = approval.plan_of(flow.task, flow.machines())
    if valid is not None and not approval.changes(valid, plan, flow.task):
        step.due_at = valid.due_at
        step.save(update_fields=["due_at"])
        return
    if valid is not None:
        approval.end_order(valid, approval.changes(valid, plan, flow.task))
    ask(flow, step, params)


def ask(flow: Flow, step: TaskStep, params: WorkOrderParams) -> WorkOrder:
    """A new question about what would be done now; says what is new since the last one."""
    plan = approval.plan_of(flow.task, flow.machines())
    last = step.orders.order_by("number").last()
    order = WorkOrder.objects.create(
        step=step,
        number=last.number + 1 if last else 1,
        plan=plan,
        digest=approval.digest_of(plan),
        changes=approval.changes(last, plan, flow.task) if last else [],
        asked_at=flow.now,
        due_at=flow.now + timedelta(hours=params.hours),
    )
    order.status_changes.create(old="", new=order.status, actor=flow.task.acting_name)
    step.due_at = order.due_at
    step.save(update_fields=["due_at"])
    if params.ticket:
        tickets.ask(order, params.text)
    else:
        news.tell_asked(order)
    return order


def look(flow: Flow, step: TaskStep, params: WorkOrderParams) -> None:
    order = step.orders.order_by("number").last()
    if order is None:
        return
    if order.status == WorkOrder.Status.APPROVED:
        flow.finish(step, Status.SUCCEEDED, Sentence("Approved by %(who)s.", who=_who(order)))
    elif order.status == WorkOrder.Status.REJECTED:
        flow.finish(
            step,
            Status.FAILED,
            Sentence("Rejected by %(who)s: %(reason)s", who=_who(order), reason=order.reason),
        )
    elif order.status == WorkOrder.Status.OPEN and (why := _why_never_asked(order)):
        change_status(order, to=WorkOrder.Status.CLOSED, reason=why)
        flow.finish(step, Status.FAILED, why)
    elif order.due_at is not None and order.due_at <= flow.now:
        change_status(order, to=WorkOrder.Status.EXPIRED)
        approval.close_request(order)
        flow.finish(
            step,
            Status.FAILED,
            Sentence(
                "Nobody decided within %(hours)s hours; retry asks again.", hours=params.hours
            ),
        )


def _why_never_asked(order: WorkOrder) -> str:
    """Why the ticket system will never decide; empty while it may, and where people do."""
    request = SiteRequest.objects.filter(order=order).first()
    if request is None or request.ended_at is None or request.answer:
        return ""
    return request.last_error or Sentence("The request to the ticket system was closed.")


def _who(order: WorkOrder) -> str:
    return order.decided_by_name


def cancel(flow: Flow, step: TaskStep, params: WorkOrderParams) -> None:
    for order in step.orders.filter(status=WorkOrder.Status.OPEN):
        change_status(order, to=WorkOrder.Status.CLOSED)
        approval.close_request(order)
    flow.finish(step, Status.CANCELED, Sentence("Canceled."))


WORK_ORDER = register(
    StepKind(
        name="workOrder",
        title=_("Approval"),
        params=WorkOrderParams,
        begin=begin,
        look=look,
        cancel=cancel,
        may_be_skipped=False,
        check=check,
    )
)
