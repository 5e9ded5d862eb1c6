"""What the live page of a task needs besides the snapshot: words for its script and addresses."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.translation import gettext as _

from beidou.base import display, permissions
from operations import live_page
from operations.flows import catalog, control, live
from operations.flows.library.models import TaskTemplate
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep, WorkOrder
from operations.models import OperationMachine
from operations.services.live import links_for

_ICONS = {
    "open": "how_to_reg",
    "approved": "task_alt",
    "rejected": "block",
    "expired": "timer_off",
    "closed": "do_not_disturb_on",
    "withdrawn": "undo",
    "outdated": "sync_problem",
}


def states() -> dict[str, dict[str, str]]:
    """Status -> word, icon and tone."""
    words: dict[str, Any] = dict(WorkOrder.Status.choices)
    for choices in (
        OperationMachine.State,
        TaskMachine.State,
        TaskStep.Status,
        AutoOperationTask.Status,
    ):
        words |= dict(choices.choices)
    known = live_page.states()
    return {
        status: {
            **known.get(status, {"icon": _ICONS.get(status, "radio_button_unchecked")}),
            "word": str(word),
            "tone": display.tone_of(status),
        }
        for status, word in words.items()
    }


def texts() -> dict[str, str]:
    """Everything the script says; ``{…}`` is filled in by it."""
    return {
        "elapsed": _("for {time}"),
        "took": _("took {time}"),
        "asked": _("asked {time} ago"),
        "waits_for": _("Waits for {what}"),
        "s": _("{s} s"),
        "m": _("{m} m {s} s"),
        "h": _("{h} h {m} m"),
        "live": _("Live"),
        "reconnecting": _("Reconnecting …"),
        "ended": _("Ended"),
        "forbidden": _("This task is gone, or you may no longer see it."),
        "signed_out": _("You have been signed out."),
        "sign_in": _("Sign in again"),
        "failed_request": _("The portal did not answer. Try again."),
        "failed_machines": _("{count} failed"),
        "batch": _("Batch {number}"),
        "not_begun": _("not begun yet"),
        "may_approve": _("May approve: {names}"),
        "nobody": _(
            "Nobody but who asked may approve on this cluster: grant somebody the role Owner."
        ),
        "until": _("in {time}"),
        "due": _("due"),
        "compensation": _("Only after a failure"),
        "not_reached": _("Not reached"),
        "waits_for_you": _("Waits for your decision"),
        "waits_for_ticket": _("Waits for the ticket system ({host})"),
        "waits_for_decision": _("Waits for a decision"),
        "plan": _("{machines}, plan {digest}, playbooks {playbooks}"),
        "what_was_approved": _("What was approved"),
        "changed": _("Asked again, because:"),
        "decided": _("{state} by {who}: {reason}"),
        "approve": _("Approve …"),
        "reject": _("Reject …"),
        "withdraw": _("Withdraw the approval …"),
        "skip": _("Skip …"),
        "cancel_title": _("Cancel this task?"),
        "cancel_text": _(
            "Its running operations are canceled too; machines stay as far as they got."
        ),
        "cancel_button": _("Cancel the task"),
        "retry_title": _("Go on from where it stopped?"),
        "retry_text": _(
            "Failed operations are retried, and what comes behind them is done for these "
            "machines; those that were undone begin anew. From now on it is done with your "
            "rights."
        ),
        "retry_answers": _(
            "A retry from here changes no choices. Where an operation needs another choice, "
            "retry it on its own page first, then this task:"
        ),
        "ask_again_text": _(
            "The operation that asks looks again, as when you have mended meanwhile what is in its "
            "way."
        ),
        "asking_answers": _(
            "A retry from here changes no choices. They are made on the page of the operation, and "
            "the task goes on with them by itself:"
        ),
        "retry_button": _("Retry"),
        "answer": _("Answer …"),
        "skip_title": _("Skip the step {step}?"),
        "skip_text": _("It is taken as passed, and the next one begins."),
        "skip_button": _("Skip the step"),
        "approve_title": _("Approve: {step}?"),
        "approve_text": _(
            "Exactly what is listed is done, with at most these machines; if it changes, you are "
            "asked again."
        ),
        "accept_text": _(
            "What is listed has been done already: your approval accepts it, and nothing more is "
            "done to these machines."
        ),
        "above_text": _(
            "Nothing more is done to these machines here, but the task {task} goes on with what "
            "comes behind: your approval lets it."
        ),
        "approve_button": _("Approve"),
        "reject_title": _("Reject: {step}?"),
        "reject_text": _("The task ends as failed; a retry asks again."),
        "reject_button": _("Reject"),
        "withdraw_title": _("Withdraw the approval: {step}?"),
        "withdraw_text": _("What has begun goes on; everything else waits for a new decision."),
        "withdraw_button": _("Withdraw"),
    }


def _template(task: AutoOperationTask) -> dict[str, Any]:
    """What the page calls it, and where it leads; a graph of one's own leads nowhere."""
    made = catalog.TEMPLATES.get(task.template)
    if made is not None:
        url = reverse("operations:template", args=[made.name])
        return {"template_title": made.title, "template_url": url}
    row = TaskTemplate.objects.filter(name=task.template).first() if task.template else None
    if row is None:
        return {"template_title": task.template, "template_url": ""}
    url = reverse("operations:template", args=[row.name])
    return {
        "template_title": row.title,
        "template_url": f"{url}?{urlencode({'version': task.template_version})}",
        "template_version": task.template_version,
    }


def context(request: HttpRequest, task: AutoOperationTask) -> dict[str, Any]:
    """The template's context."""
    taken = live.snapshot(task.pk)
    why = control.why_not_decide(task, request.user)  # type: ignore[arg-type]
    may_operate = permissions.may(request.user, task, permissions.OPERATE)
    api = reverse("auto-operation-task-detail", args=[task.pk])
    return {
        **_template(task),
        "may_operate": may_operate,
        "page_data": {
            "snapshot": taken.as_dict() if taken else None,
            "states": states(),
            "texts": texts(),
            "may_operate": may_operate,
            "may_decide": not why,
            "csrf": get_token(request),
            "csrf_cookie": settings.CSRF_COOKIE_NAME,
            "urls": {
                "api": api,
                "events": f"{api}events/",
                "live": f"{api}live/",
                "machines": links_for(request.user, task),
                "login": f"{reverse('admin:login')}?{urlencode({'next': request.path})}",
            },
        },
    }
