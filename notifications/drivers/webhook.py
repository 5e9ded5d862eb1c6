"""Signed webhooks: a POST of JSON whose sender and age the receiver can check.

``Beidou-Signature: v1=<hex>`` is HMAC-SHA256 with the shared secret over the time of
``Beidou-Timestamp``, a dot, and the body as it was sent.  ``Beidou-Delivery`` is the same at every
repetition of a message.
"""

import hashlib
import hmac
import json
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from beidou.base.deadline import Deadline
from beidou.base.errors import PermanentError, TemporaryError, shorten
from beidou.base.network import in_words
from beidou.base.sentences import Sentence
from notifications.drivers import addresses
from notifications.drivers.addresses import Limits
from notifications.drivers.message import Message

SECONDS = 15.0
ANSWER_LIMIT = 2000
LATER = frozenset({408, 409, 423, 425, 429})


def sign(secret: str, timestamp: int, body: bytes) -> str:
    text = f"{timestamp}.".encode() + body
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def send(
    message: Message,
    *,
    url: str,
    secret: str,
    limits: Limits,
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
) -> None:
    """POST it; redirects are not followed, no proxy is used, and ``seconds`` is all it may take."""
    parts = addresses.check(url, limits)
    host, is_https = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_https else 80)
    place = addresses.resolve(host, port, limits)
    body = json.dumps(message.data, ensure_ascii=False).encode()
    timestamp = int(time.time())
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Beidou",
        "Beidou-Delivery": message.key,
        "Beidou-Timestamp": str(timestamp),
        "Beidou-Signature": f"v1={sign(secret, timestamp, body)}",
    }
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
        connection.request("POST", target, body=body, headers=headers)
        answer = connection.getresponse()
        status, retry_after = answer.status, answer.getheader("Retry-After", "")
        said = answer.read(ANSWER_LIMIT) if status >= 300 else b""
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
