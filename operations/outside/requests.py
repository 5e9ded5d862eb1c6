"""What is asked of a system of the site goes out signed; the answer comes at once or by a callback.

A question is a row before anything is sent, and goes out with the same key until somebody has it.
An answer may come in parts and more than once: what was said already may be said again, and nothing
that was said is changed.  A callback that was signed once is taken once.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beidou.base import audit, context, webhooks
from beidou.base.bodies import refuse_unstorable
from beidou.base.errors import Conflict, InvalidInput, PermanentError, shorten
from beidou.base.sentences import Sentence
from operations.outside import systems
from operations.outside.models import SiteRequest, SiteSystem

ANSWER_LIMIT: Final = 512 * 1024
SEEN_MAX: Final = 5000


class MachineAnswer(BaseModel):
    """Whether the network of one machine is as it was asked for."""

    model_config = ConfigDict(extra="ignore")

    ok: bool
    message: str = Field(default="", max_length=500)


class NetworkAnswer(BaseModel):
    """Per machine, by the address that the question has; it may leave some for later."""

    model_config = ConfigDict(extra="ignore")

    machines: dict[str, MachineAnswer] = Field(max_length=2000)


@dataclass(frozen=True)
class Asking:
    """What is done with the answers for one purpose: their shape, and who takes them.

    ``hold`` locks what has to be locked before the request.  ``given_up`` is called, once it is
    closed, when the system refused the question.
    """

    shape: type[BaseModel]
    take: Callable[[SiteRequest, Any], None]
    hold: Callable[[SiteRequest], None] = lambda _request: None
    given_up: Callable[[SiteRequest], None] = lambda _request: None


_ASKING: dict[str, Asking] = {}


def register(purpose: str, asking: Asking) -> None:
    _ASKING[purpose] = asking


def public(path: str) -> str:
    """The address of ``path`` for those outside."""
    return f"{settings.PUBLIC_URL.rstrip('/')}{path}"


def host_of(system: SiteSystem) -> str:
    return (urlsplit(system.url).hostname or "")[:255]


def callback_url(request: SiteRequest) -> str:
    return public(reverse("site-request-callback", args=[request.key]))


def send(request: SiteRequest) -> None:
    """One try to hand the question over; takes what is answered at once.

    ``TemporaryError`` when it may be tried again, ``PermanentError`` when that makes no sense.
    """
    system = systems.require(request.cluster, request.purpose)
    host = host_of(system)
    SiteRequest.objects.filter(pk=request.pk).update(host=host)
    answer = webhooks.post(
        {"id": str(request.key), **request.data, "callback": callback_url(request)},
        key=str(request.key),
        url=system.url,
        secret=system.secret,
        limits=webhooks.limits(),
        answer_limit=ANSWER_LIMIT,
    )
    with audit.entries_last():
        held = _held(request)
        held.host = host
        if held.accepted_at is None:
            held.accepted_at = timezone.now()
            held.save(update_fields=["accepted_at", "host"])
        if answer.status == 200 and answer.body.strip():
            _take_at_once(held, answer.body)


def _take_at_once(request: SiteRequest, body: bytes) -> None:
    """An answer in the same breath; a body that is none of ours is an error, not a silent wait."""
    try:
        _take(request, body)
    except (InvalidInput, Conflict) as error:
        raise PermanentError(
            Sentence(
                "%(host)s answered what cannot be used: %(why)s",
                host=request.host,
                why=error.message,
            ),
            code="bad_answer",
        ) from error


def take_callback(key: str, headers: Mapping[str, str], body: bytes) -> SiteRequest | None:
    """A signed answer from outside; None when nothing was asked under this key.

    ``Forbidden`` unless it is genuine, ``Conflict`` when this very callback was taken before or the
    question is closed, ``InvalidInput`` when it has another shape.
    """
    found = SiteRequest.objects.filter(key=key).first()
    if found is None:
        return None
    system = systems.find(found.cluster_id, found.purpose)
    signature = webhooks.require_genuine(system.secret if system else "", headers, body)
    with audit.entries_last():
        request = _held(found)
        if signature in request.seen:
            raise Conflict(
                _("This very callback was taken already; sign each one anew."), code="replayed"
            )
        request.seen = [*request.seen[-SEEN_MAX:], signature]
        request.save(update_fields=["seen"])
        _take(request, body, names_itself=True)
    return request


def _held(request: SiteRequest) -> SiteRequest:
    _ASKING[request.purpose].hold(request)
    rows = SiteRequest.objects.select_for_update(of=("self",))
    return rows.select_related("cluster", "step__operation").get(pk=request.pk)


def _take(request: SiteRequest, body: bytes, *, names_itself: bool = False) -> None:
    """``names_itself``: it has to say what it answers.  A signature holds for time and body alone,
    and what answers nothing by name would answer every request that is open."""
    asking = _ASKING[request.purpose]
    try:
        data = json.loads(body)
        refuse_unstorable(data, code="bad_answer")
        typed = asking.shape.model_validate(data)
    except ValidationError as error:
        names = [shorten(".".join(map(str, each["loc"])), 200) for each in error.errors()]
        fields = dict.fromkeys(names, _("It is missing, or not of the documented shape."))
        name, sentence = next(iter(fields.items()))
        raise InvalidInput(f"{name}: {sentence}", code="bad_answer", fields=fields) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(_("The body is no JSON."), code="bad_answer") from error
    if names_itself and "id" not in data:
        sentence = _("An answer by a callback names its request: put the id of that into it.")
        raise InvalidInput(sentence, code="bad_answer", fields={"id": sentence})
    if data.get("id", str(request.key)) != str(request.key):
        sentence = _("This is the answer to another request.")
        raise InvalidInput(sentence, code="bad_answer", fields={"id": sentence})
    who = f"{request.purpose}: {request.host}"
    with context.acting(actor_id=None, actor_name=who[:150]):
        asking.take(request, typed)


def close(request: SiteRequest, why: str = "") -> None:
    """Nothing more is expected; answers are refused from now on."""
    SiteRequest.objects.filter(pk=request.pk, ended_at=None).update(
        ended_at=timezone.now(), next_try_at=None, last_error=why
    )


def give_up(request: SiteRequest, why: str) -> None:
    """The system will never have it."""
    with transaction.atomic():
        close(request, why)
        _ASKING[request.purpose].given_up(request)


# --- the network ------------------------------------------------------------------------------


def _take_network(request: SiteRequest, answer: NetworkAnswer) -> None:
    asked = {each["address"] for each in request.data["machines"]}
    news: dict[str, dict[str, Any]] = {}
    for address, said in answer.machines.items():
        place = f"machines.{address}"
        if address not in asked:
            sentence = _("This request is not about %(address)s.") % {
                "address": shorten(address, 60)
            }
            raise InvalidInput(sentence, code="unknown_machine", fields={place: sentence})
        value = said.model_dump()
        known = request.answer.get(address)
        if known is None:
            news[address] = value
        elif known != value:
            raise Conflict(
                _("%(address)s was answered before, and otherwise.") % {"address": address},
                code="answered_otherwise",
            )
    if not news:
        return
    if request.ended_at is not None:
        raise Conflict(
            _("Nobody waits for this answer any more; the request is closed."), code="closed"
        )
    request.answer = {**request.answer, **news}
    fields = ["answer"]
    if asked <= request.answer.keys():
        request.ended_at = timezone.now()
        fields.append("ended_at")
    request.save(update_fields=fields)
    audit.record(
        "answer from outside",
        request.step.operation if request.step else None,
        after={"request": str(request.key), "machines": news},
    )


register(SiteSystem.Purpose.NETWORK, Asking(NetworkAnswer, _take_network))
