"""What the live page needs besides the snapshot: words for its script, marks and addresses."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base import display, permissions
from machines.models import Machine
from operations.forms import answer_fields
from operations.kinds import base as kinds
from operations.models import Attempt, MachineStep, Operation, OperationMachine, Step
from operations.services import estimates, live

_ICONS = {
    "waiting": "schedule",
    "running": "progress_activity",
    "paused": "pause_circle",
    "canceling": "cancel",
    "canceled": "cancel",
    "succeeded": "check_circle",
    "partial": "warning",
    "failed": "error",
    "skipped": "skip_next",
    "done": "check_circle",
    "lost": "link_off",
    "errored": "bug_report",
}


def states() -> dict[str, dict[str, str]]:
    """Status -> word, icon and tone, for everything that has a status on the page."""
    words: dict[str, Any] = {}
    for choices in (Attempt.Outcome, OperationMachine.State, MachineStep.Status, Step.Status):
        words |= dict(choices.choices)
    words |= dict(Operation.Status.choices)
    return {
        status: {
            "word": str(word),
            "icon": _ICONS.get(status, "radio_button_unchecked"),
            "tone": display.tone_of(status),
        }
        for status, word in words.items()
    }


def machine_words() -> dict[str, str]:
    """State of a machine -> word."""
    return {state: str(word) for state, word in Machine.State.choices}


def texts(machines: int) -> dict[str, str]:
    """Everything the script says of so many machines; ``{…}`` is filled in by it."""
    return {
        "elapsed": _("for {time}"),
        "took": _("took {time}"),
        "elapsed_within": _("worked on for {time}, begun {span} ago"),
        "took_within": _("took {time}, {span} from start to end"),
        "asked": _("asked {time} ago"),
        "left": _("about {time} left"),
        "longer": _("longer than usual"),
        "no_estimate": _("no earlier runs to estimate from"),
        "waits_for": _("Waits for {what}"),
        "waits_for_since": _("Waits for {what} ({time})"),
        "waits_until": _("in {time}"),
        "glass": _("Let begin in spite of windows and freezes by {who}: {reason}"),
        "break-glass_title": _("Begin in spite of windows and freezes?"),
        "break-glass_text": _(
            "It begins as soon as limits allow. Your name and the reason stay with the operation, "
            "on the home page and in the audit trail. A retry, or a resume after a pause, would "
            "wait again."
        ),
        "break-glass_button": _("Begin now"),
        "priority": _("priority: {priority}"),
        "machines_done": ngettext(
            "{done} of {total} machine", "{done} of {total} machines", machines
        ),
        "failed_machines": _("{count} failed"),
        "machines_now": _("The machines are now: {states}."),
        "s": _("{s} s"),
        "m": _("{m} m {s} s"),
        "h": _("{h} h {m} m"),
        "live": _("Live"),
        "reconnecting": _("Reconnecting …"),
        "ended": _("Ended"),
        "forbidden": _("This operation is gone, or you may no longer see it."),
        "signed_out": _("You have been signed out."),
        "sign_in": _("Sign in again"),
        "not_reached": _("Not reached"),
        "retry": _("Retry"),
        "skip": _("Skip …"),
        "usually": _("usually {time}"),
        "attempt": _("attempt {number}"),
        "check": _("Check"),
        "found": _("Found"),
        "wanted": _("Wanted"),
        "advice": _("What to do"),
        "in_step": _("in {step}"),
        "no_checks": _("See the output for details."),
        "more_rows": _("Show {count} more"),
        "more_failed": _("{count} more failed: see the list of machines below."),
        "no_rows": _("No machine matches."),
        "shown": _("{shown} of {total} shown"),
        "new_lines": _("{count} new lines"),
        "lines": _("{count} lines"),
        "no_output": _("No output yet."),
        "no_output_here": _("No output of these machines."),
        "older": _("Loading older lines …"),
        "answers": _("Go on with other choices"),
        "failed_request": _("The portal did not answer. Try again."),
        "cancel_title": _("Cancel this operation?"),
        "cancel_text": _(
            "What is running is ended within seconds, also in the middle of a step. "
            "Machines stay as far as they got; you can retry or clean them up afterwards."
        ),
        "cancel_button": _("Cancel the operation"),
        "retry_title": _("Retry what did not succeed?"),
        "retry_text": _(
            "Machines that continue, each at the step where it stands: {count}. "
            "What has succeeded is not done again."
        ),
        "retry_one_text": _("{machine} continues at the step {step}."),
        "retry_button": _("Retry"),
        "skip_title": _("Skip a failed step?"),
        "skip_text": _(
            "{machine}: the step {step} is taken as passed, without proof, and the next one begins."
        ),
        "skip_button": _("Skip the step"),
    }


def context(request: HttpRequest, operation: Operation) -> dict[str, Any]:
    """The template's context; ``operation`` as ``listing.with_counts`` gives it."""
    kind = kinds.KINDS.get(operation.kind)
    machines = operation.machines.count()
    expected = live.expected_seconds(operation, machines)
    taken = live.snapshot(operation.pk, expected=expected)
    may_operate = kind is not None and permissions.may(request.user, operation, kind.permission)
    titles = {step.name: str(step.title) for step in kind.steps} if kind else {}
    start = reverse("operations:start")
    api = reverse("operation-detail", args=[operation.pk])
    return {
        "kind": kind,
        "about": kind.about(operation.params) if kind else [],
        "may_operate": may_operate,
        "page_data": {
            "time_zone": settings.TIME_ZONE,
            "snapshot": taken.as_dict() if taken else None,
            "states": states(),
            "machine_states": machine_words(),
            "priorities": {key: str(word) for key, word in Operation.Priority.choices},
            "texts": texts(machines),
            "titles": titles,
            "touching": [step.name for step in kind.steps if step.touches] if kind else [],
            "never_skipped": [s.name for s in kind.steps if not s.may_be_skipped] if kind else [],
            "may_operate": may_operate,
            "may_approve": may_operate
            and permissions.may(request.user, operation, permissions.APPROVE),
            "late": {"seconds": estimates.LATE_SECONDS, "share": estimates.LATE_SHARE},
            "answers": _answers(request, operation, kind) if kind and may_operate else [],
            "csrf": get_token(request),
            "csrf_cookie": settings.CSRF_COOKIE_NAME,
            "urls": {
                "api": api,
                "events": f"{api}events/",
                "output": f"{api}output/",
                "download": f"{api}output/download/",
                "live": f"{api}live/",
                "login": f"{reverse('admin:login')}?{urlencode({'next': request.path})}",
                "evidence": reverse("operations:evidence", args=[operation.pk]),
                "results": reverse("operations:results", args=[operation.pk]),
                "audit": reverse("operations:audit", args=[operation.pk]),
                "machines": live.links_for(request.user, operation),
                "clean_up": f"{start}?kind=CleanUp&cluster={operation.cluster_id}",
            },
        },
    }


def _answers(request: HttpRequest, operation: Operation, kind: kinds.Kind) -> list[dict[str, Any]]:
    """What the dialog of *Retry* lets a person choose, as it is chosen now.

    Approvals are offered to whoever may give them, and are never chosen beforehand.
    """
    may_approve = not operation.is_asked_by(request.user) and permissions.may(
        request.user, operation, permissions.APPROVE
    )
    now = {**operation.params, **operation.answers}
    shown = []
    for name, field in answer_fields(kind).items():
        is_approval = name in kind.approvals
        if is_approval and not may_approve:
            continue
        choices = getattr(field, "choices", [])
        value = False if is_approval else now.get(name, field.initial)
        shown.append(
            {
                "name": name,
                "label": str(field.label),
                "help": str(field.help_text),
                "value": value,
                "approval": is_approval,
                "choices": [[str(key), str(label)] for key, label in choices],
                "min": getattr(field, "min_value", None),
                "max": getattr(field, "max_value", None),
            }
        )
    return shown
