"""What a Kubernetes API server can do to a call, in the few classes that callers tell apart.

Every message names the cluster and the action and is cut to a readable length; the bearer token and
other secrets of the call are removed before the server's own words are quoted.  The libraries
(urllib3, aiohttp, ssl, socket) are named nowhere else: both clients translate here.
"""

import re
import socket
import ssl
from collections.abc import Callable, Collection, Iterator

import msgspec

from beidou.base.errors import ExternalError, PermanentError, TemporaryError, shorten
from beidou.base.network import in_words
from beidou.base.sentences import Sentence, joined
from beidou.base.storable import storable_json


class Unauthorized(PermanentError):
    """401: the credential is not, or no longer, accepted."""

    code = "unauthorized"


class Forbidden(PermanentError):
    """403: the credential is known, but may not do this."""

    code = "forbidden_by_cluster"


REFUSALS = (Unauthorized, Forbidden)
"""What an API server that has just begun may answer, too, until it has read its roles."""


class NotFound(PermanentError):
    """404: the object, or the whole API group, does not exist."""

    code = "not_found_in_cluster"


class Conflict409(PermanentError):
    """409: the object exists already, or changed since it was read (``code`` tells which)."""

    code = "conflict_in_cluster"


class CertificateProblem(PermanentError):
    """TLS was refused by one side; nothing was sent."""

    code = "certificate_problem"


class Unreachable(TemporaryError):
    """No answer: name, address, connection or time; the message says which and how long."""

    code = "unreachable"


class Gone(TemporaryError):
    """The list position is too old, or ahead of a cluster that was restored from a backup: the list
    has to be read again from its beginning."""

    code = "gone"


class ServerTrouble(TemporaryError):
    """429 or 5xx: the API server is there, but cannot serve this call now."""

    code = "server_trouble"


class BadAnswer(TemporaryError):
    """The answer was not what the Kubernetes API promises (cut off, HTML of a proxy, …)."""

    code = "bad_answer"


class _Status(msgspec.Struct, frozen=True):
    """The ``Status`` object with which Kubernetes explains a refusal."""

    message: str = ""
    reason: str = ""


_STATUS = msgspec.json.Decoder(_Status)

_BY_HTTP_STATUS: dict[int, type[PermanentError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict409,
}

_SENTENCES = {
    401: Sentence("the credential was not accepted (HTTP 401)"),
    403: Sentence("the credential may not do this (HTTP 403)"),
    404: Sentence("it does not exist (HTTP 404)"),
    409: Sentence("it exists already or has changed meanwhile (HTTP 409)"),
    410: Sentence("the list position is too old (HTTP 410)"),
    429: Sentence("the API server has too much to do (HTTP 429)"),
}


def redact(text: str, secrets: Collection[str]) -> str:
    """Remove every secret from a foreign text."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


def could_not(action: str, cluster_name: str, why: str) -> Sentence:
    """The whole sentence; ``action`` is its verb and object, ``why`` its second half."""
    return Sentence(
        "Cluster %(cluster)s: could not %(action)s: %(why)s.",
        cluster=cluster_name,
        action=action,
        why=why,
    )


def from_http_status(
    status: int,
    body: bytes,
    *,
    cluster_name: str,
    action: str,
    retry_after: float = 5.0,
    secrets: Collection[str] = (),
) -> ExternalError:
    """The error for an answer that is no success, with the server's explanation if it gave one."""
    explanation = _explain(body)
    why: str = _SENTENCES.get(status) or Sentence(
        "the API server answered HTTP %(status)s", status=status
    )
    if explanation.message:
        said = shorten(redact(explanation.message, secrets).rstrip("."))
        why = joined([why, said], ": ")
    message: str = could_not(action, cluster_name, why)
    if status == 401:
        message = joined([message, Sentence("Replace the credential.")], " ")
    if status == 410 or (status == 504 and "Too large resource version" in explanation.message):
        return Gone(message)
    if status == 429 or status >= 500:
        return ServerTrouble(message, retry_after=retry_after)
    if status == 409:
        exists = explanation.reason == "AlreadyExists"
        return Conflict409(message, code="already_exists" if exists else "changed_meanwhile")
    return _BY_HTTP_STATUS.get(status, PermanentError)(message)


def retry_after_seconds(header: str | None) -> float:
    """A Retry-After in seconds; 5 when it is missing or a date, never more than five minutes."""
    if header is None or not re.fullmatch(r"[0-9]{1,9}", header):
        return 5.0
    return min(float(header), 300.0)


def _explain(body: bytes) -> _Status:
    try:
        return _STATUS.decode(storable_json(body))
    except msgspec.DecodeError:
        # Not a Status object: a proxy's page or plain text; its beginning still helps.
        return _Status(message=shorten(body.decode("utf-8", "replace"), 200))


def from_connection_failure(
    error: BaseException,
    *,
    cluster_name: str,
    action: str,
    address: str,
    seconds: float,
    timeout: float,
) -> ExternalError:
    """The error for a call that got no HTTP answer.

    ``address`` is host:port as called, ``seconds`` how long the call lasted, ``timeout`` its limit.
    """
    took = f"{seconds:.1f}"

    def failure(why: str) -> Sentence:
        return could_not(action, cluster_name, why)

    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and not hasattr(cause, "reason"):
            continue  # aiohttp's wrapping claims the class, but carries none of its facts
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateProblem(
                failure(certificate_sentence(cause, address)), code=certificate_code(cause)
            )
        if isinstance(cause, ssl.SSLError) and cause.reason is not None:
            return _from_tls_failure(cause, failure=failure, address=address)
        if isinstance(cause, socket.gaierror):
            host = address.rsplit(":", 1)[0]
            return Unreachable(
                failure(
                    Sentence(
                        "the name %(host)s was not resolved (%(why)s)",
                        host=host,
                        why=cause.strerror,
                    )
                ),
                code="name_not_resolved",
            )
        if isinstance(cause, ConnectionRefusedError):
            return Unreachable(
                failure(
                    Sentence(
                        "%(address)s refused the connection after %(seconds)s s",
                        address=address,
                        seconds=took,
                    )
                ),
                code="connection_refused",
            )
    if seconds >= timeout * 0.95 or any(isinstance(e, TimeoutError) for e in _causes(error)):
        return Unreachable(
            failure(
                Sentence(
                    "%(address)s did not answer within %(limit)s s (tried for %(seconds)s s)",
                    address=address,
                    limit=f"{timeout:g}",
                    seconds=took,
                )
            ),
            code="timed_out",
        )
    reason = in_words(list(_causes(error))[-1])  # a library's own wrapping shows objects
    return Unreachable(
        failure(
            Sentence(
                "the connection to %(address)s failed after %(seconds)s s (%(why)s)",
                address=address,
                seconds=took,
                why=reason,
            )
        )
    )


def _from_tls_failure(
    error: ssl.SSLError, *, failure: Callable[[str], Sentence], address: str
) -> ExternalError:
    reason = (error.reason or "").replace("_", " ").lower()
    if "alert" in reason:
        return CertificateProblem(
            failure(
                Sentence(
                    "%(address)s broke off TLS (%(why)s); it does not accept our client "
                    "certificate or TLS version",
                    address=address,
                    why=reason,
                )
            ),
            code="refused_by_server",
        )
    if "wrong version number" in reason or "http request" in reason:
        return CertificateProblem(
            failure(Sentence("%(address)s does not speak TLS", address=address)), code="not_tls"
        )
    return Unreachable(
        failure(Sentence("TLS with %(address)s broke off (%(why)s)", address=address, why=reason)),
        code="tls_broke_off",
    )


# OpenSSL's X509_V_ERR_* numbers; the ssl module gives them no names.
_NOT_SIGNED = Sentence("was not signed by the given CA")
_CERTIFICATE_FAULTS = {
    9: ("not_yet_valid", Sentence("is not valid yet")),
    10: ("expired", Sentence("has expired")),
    18: ("unknown_ca", Sentence("is self-signed and not the given CA")),
    19: ("unknown_ca", _NOT_SIGNED),
    20: ("unknown_ca", _NOT_SIGNED),
    21: ("unknown_ca", _NOT_SIGNED),
    7: ("unknown_ca", _NOT_SIGNED),
    62: ("wrong_name", Sentence("is made for other names")),
    64: ("wrong_name", Sentence("is made for other addresses")),
}


def certificate_code(error: ssl.SSLCertVerificationError) -> str:
    """A stable code: expired, not_yet_valid, unknown_ca, wrong_name or certificate_problem."""
    return _CERTIFICATE_FAULTS.get(error.verify_code, ("certificate_problem", ""))[0]


def certificate_sentence(error: ssl.SSLCertVerificationError, address: str) -> str:
    """What is wrong with the server's certificate, as the second half of a sentence."""
    fault = _CERTIFICATE_FAULTS.get(error.verify_code)
    if fault is None:
        return Sentence(
            "the certificate of %(address)s was not accepted (%(why)s)",
            address=address,
            why=error.verify_message,
        )
    return Sentence(
        "the certificate of %(address)s %(fault)s (%(why)s)",
        address=address,
        fault=fault[1],
        why=error.verify_message.rstrip("."),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what lies under it, whichever way the library keeps it."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        kept = (current.__cause__, current.__context__, *current.args)
        waiting.extend(item for item in kept if isinstance(item, BaseException))
