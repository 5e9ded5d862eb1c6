"""Signed webhooks: a POST of JSON whose sender and age the receiver can check, and answers that the
portal checks in the same way.

``Beidou-Signature: v1=<hex>`` is HMAC-SHA256 with the shared secret over the time of
``Beidou-Timestamp``, a dot, and the body as it was sent.  ``Beidou-Delivery`` is the same at every
repetition of a message.
"""

import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final

from django.conf import settings
from django.utils.translation import gettext as _

from beidou.base import addresses
from beidou.base.addresses import Limits
from beidou.base.deadline import Deadline
from beidou.base.errors import Forbidden, PermanentError, TemporaryError, shorten
from beidou.base.network import in_words
from beidou.base.sentences import Sentence

SECONDS: Final = 15.0
FRESH_SECONDS: Final = 300
REFUSAL_LIMIT: Final = 2000
LATER: Final = frozenset({408, 409, 423, 425, 429})


@dataclass(frozen=True)
class Answer:
    """A 2xx; ``body`` as far as it was asked for."""

    status: int
    body: bytes = b""


def limits() -> Limits:
    """Where webhooks of this portal may lead."""
    return Limits(
        allow_http=settings.WEBHOOK_ALLOW_HTTP,
        allow_local=settings.WEBHOOK_ALLOW_LOCAL,
        hosts=tuple(settings.WEBHOOK_HOSTS),
    )


def sign(secret: str, timestamp: int, body: bytes) -> str:
    text = f"{timestamp}.".encode() + body
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def require_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    """The signature of an answer; ``Forbidden`` unless whoever has ``secret`` signed just this
    body within the last minutes."""
    stamp, given = headers.get("Beidou-Timestamp", ""), headers.get("Beidou-Signature", "")
    if not stamp.isascii() or not stamp.isdecimal() or len(stamp) > 12:
        raise Forbidden(_("Beidou-Timestamp must hold seconds since 1970."), code="no_timestamp")
    expected = f"v1={sign(secret, int(stamp), body)}"
    if not secret or not hmac.compare_digest(expected.encode(), given.encode()):
        raise Forbidden(
            _("Beidou-Signature does not fit the time, the body and the secret."),
            code="wrong_signature",
        )
    if abs(time.time() - int(stamp)) > FRESH_SECONDS:
        raise Forbidden(
            _("It was signed more than %(minutes)s minutes ago, or a clock is wrong.")
            % {"minutes": FRESH_SECONDS // 60},
            code="stale",
        )
    return given


def post(
    data: Mapping[str, Any],
    *,
    key: str,
    url: str,
    secret: str,
    limits: Limits,
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
    answer_limit: int = 0,
) -> Answer:
    """POST it; redirects are not followed, no proxy is used, and ``seconds`` is all it may take.

    ``answer_limit``: bytes of the answer that are of interest; a longer one is an error.
    """
    body = json.dumps(data, ensure_ascii=False).encode()
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Beidou-Delivery": key,
        "Beidou-Timestamp": str(timestamp),
        "Beidou-Signature": f"v1={sign(secret, timestamp, body)}",
    }
    return ask(
        "POST",
        url,
        headers=headers,
        body=body,
        limits=limits,
        context=context,
        seconds=seconds,
        answer_limit=answer_limit,
    )


def ask(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    limits: Limits,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
    answer_limit: int = 0,
) -> Answer:
    """One request to a checked address; see ``post``."""
    parts = addresses.check(url, limits)
    host, is_https = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_https else 80)
    place = addresses.resolve(host, port, limits)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    deadline = Deadline(seconds)
    connection: HTTPConnection = (
        _Pinned(place, port, host, deadline, seconds, context or ssl.create_default_context())
        if is_https
        else HTTPConnection(place, port, timeout=seconds)
    )
    try:
        connection.connect()
        deadline.watch(connection.sock)
        connection.request(
            method,
            target,
            body=body,
            headers={"Host": parts.netloc, "User-Agent": "Beidou", **headers},
        )
        answer = connection.getresponse()
        status, retry_after = answer.status, answer.getheader("Retry-After", "")
        said = answer.read(REFUSAL_LIMIT) if status >= 300 else b""
        if status < 300 and answer_limit:
            said = answer.read(answer_limit + 1)
    except (OSError, ValueError, HTTPException) as error:
        why = Sentence("not done in time") if deadline.is_over else in_words(error)
        raise TemporaryError(
            Sentence("%(host)s did not take the message: %(why)s.", host=host, why=why),
            code="webhook_failed",
        ) from error
    finally:
        deadline.end()
        connection.close()
    if not 200 <= status < 300:
        raise _refused(host, status, said, retry_after)
    if len(said) > answer_limit:
        raise PermanentError(
            Sentence("%(host)s answered more than is read.", host=host), code="answer_too_long"
        )
    return Answer(status, said)


class _Pinned(HTTPSConnection):
    """Connects to a checked address and asks for the certificate of the name."""

    def __init__(
        self,
        place: str,
        port: int,
        name: str,
        deadline: Deadline,
        seconds: float,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__(place, port, timeout=seconds, context=context)
        self._name, self._deadline, self._tls = name, deadline, context

    def connect(self) -> None:
        HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(
            self.sock, server_hostname=self._name, do_handshake_on_connect=False
        )
        self._deadline.watch(self.sock)  # a handshake can drip, too
        self.sock.do_handshake()


def _refused(
    host: str, status: int, said: bytes, retry_after: str
) -> PermanentError | TemporaryError:
    text = shorten(said.decode("utf-8", "replace"), 200)
    if status // 100 == 3:
        return PermanentError(
            Sentence(
                "%(host)s answered %(status)s: redirects are not followed; give the address to "
                "which it leads.",
                host=host,
                status=status,
            ),
            code="webhook_redirect",
        )
    sentence = Sentence(
        "%(host)s answered %(status)s. %(text)s", host=host, status=status, text=text
    )
    if status >= 500 or status in LATER:
        wait = float(retry_after) if retry_after.isdecimal() else 0.0
        return TemporaryError(sentence, code="webhook_failed", retry_after=min(wait, 3600.0))
    return PermanentError(sentence, code="webhook_refused")
