"""Work orders that the site's ticket system decides: what it is told, and what its answer does.

The question goes out with the digest of exactly what is asked; an approval must bring it back.  The
portal's people cannot decide such an order, only withdraw an approval.
"""

from typing import Literal

from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base import audit
from beidou.base.errors import Conflict, Forbidden
from beidou.base.state import change_status
from operations.flows import advance, approval, catalog, saying
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.outside import delivery, requests, systems
from operations.outside.models import SiteRequest, SiteSystem

TICKETS = SiteSystem.Purpose.TICKETS
Status = WorkOrder.Status
_DECISIONS = {"approved": Status.APPROVED, "rejected": Status.REJECTED}


class TicketAnswer(BaseModel):
    """``by``: who decided there.  ``digest`` is that of the question; an approval needs it."""

    model_config = ConfigDict(extra="ignore")

    decision: Literal["approved", "rejected"]
    by: str = Field(min_length=1, max_length=100)
    reason: str = Field(default="", max_length=500)
    digest: str = Field(default="", max_length=64)
    ticket: str = Field(default="", max_length=100)


def ask(order: WorkOrder, text: str) -> SiteRequest:
    """Have the question handed over once what surrounds this is committed."""
    task = order.step.task
    system = systems.find(task.cluster_id, TICKETS)
    request = SiteRequest.objects.create(
        cluster=task.cluster,
        purpose=TICKETS,
        order=order,
        host=requests.host_of(system) if system else "",
        data=_question(order, text),
    )
    delivery.hand_over(request)
    return request


def _question(order: WorkOrder, text: str) -> dict[str, object]:
    """In English, whoever's request this is done in."""
    task = order.step.task
    page = reverse("admin:operations_autooperationtask_change", args=[task.pk])
    with translation.override("en"):
        return {
            "purpose": "tickets",
            "task": task.name,
            "page": requests.public(page),
            "cluster": task.cluster.name,
            "template": task.template,
            "step": order.step.key,
            "title": str(catalog.title_of(order.step)),
            "text": text,
            "reason": task.reason,
            "by": task.acting_name,
            "machines": [
                {"address": address, "hostname": each.get("hostname", "")}
                for address, each in sorted(order.plan.get("machines", {}).items())
            ],
            "about": saying.in_words(order.plan, task),
            "changes": [str(change) for change in order.changes],
            "digest": order.digest,
            "due_at": order.due_at.isoformat() if order.due_at else None,
        }


def _hold(request: SiteRequest) -> None:
    """The task first, as everybody does who moves it."""
    order = WorkOrder.objects.select_related("step").get(pk=request.order_id or 0)
    AutoOperationTask.objects.select_for_update(of=("self",)).get(pk=order.step.task_id)


def _take(request: SiteRequest, answer: TicketAnswer) -> None:
    order = WorkOrder.objects.select_related(
        "step__task__cluster",
        "step__task__requested_by",
        "step__task__carried_by",
        "step__task__sent_by",
        "step__task__parent__task__sent_by",
    ).get(pk=request.order_id or 0)
    if request.answer:
        if request.answer["decision"] == answer.decision:
            return  # said again
        raise Conflict(
            _("This was decided before, and otherwise: %(status)s.")
            % {"status": order.get_status_display()},
            code="answered_otherwise",
        )
    now = timezone.now()
    _refuse_unless_waited_for(request, order, answer)
    host = request.host or "?"
    change_status(
        order,
        to=_DECISIONS[answer.decision],
        reason=answer.reason,
        fields={
            "decided_by_name": f"{answer.by} ({host})"[:150],
            "decided_at": now,
            "reason": answer.reason,
        },
    )
    request.answer, request.ended_at, request.next_try_at = answer.model_dump(), now, None
    request.save(update_fields=["answer", "ended_at", "next_try_at"])
    about = {
        "step": order.step.key,
        "plan": order.digest,
        "by": answer.by,
        "ticket": answer.ticket,
        "machines": sorted(order.plan.get("machines", {})),
    }
    if answer.decision == "approved":
        audit.record("approve", order.step.task, reason=answer.reason, after=about)
    else:
        audit.record("reject", order.step.task, reason=answer.reason, after=about)
    advance.wake(order.step.task_id)


def _refuse_unless_waited_for(request: SiteRequest, order: WorkOrder, answer: TicketAnswer) -> None:
    task = order.step.task
    if order.status != Status.OPEN or request.ended_at is not None or not task.is_active:
        raise Conflict(
            _("Nobody waits for this decision any more: the work order is %(status)s.")
            % {"status": order.get_status_display()},
            code="closed",
        )
    if order.due_at is not None and order.due_at <= timezone.now():
        raise Conflict(_("The time limit of this decision is over."), code="too_late")
    if answer.decision == "approved" and answer.digest != order.digest:
        raise Conflict(
            _("The digest is not that of what is asked: approve exactly what the request holds."),
            code="changed_meanwhile",
        )
    own = {name.lower() for name in (*task.asker_names, *approval.answerers(task).values())}
    if answer.decision == "approved" and answer.by.lower() in own:
        raise Forbidden(
            _(
                "%(who)s asked for this task, or gave an answer that this is about; somebody else "
                "has to approve it."
            )
            % {"who": answer.by},
            code="own_task",
        )


def _given_up(request: SiteRequest) -> None:
    """The step sees it, and fails."""
    order = WorkOrder.objects.select_related("step").get(pk=request.order_id or 0)
    advance.wake(order.step.task_id)


requests.register(TICKETS, requests.Asking(TicketAnswer, _take, hold=_hold, given_up=_given_up))
