"""E-mail over SMTP, with TLS checked where it is used."""

import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate

from beidou.base.deadline import Deadline
from beidou.base.errors import PermanentError, TemporaryError, shorten
from beidou.base.network import in_words
from beidou.base.sentences import Sentence
from notifications.drivers.message import Message

SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """``security``: ``starttls``, ``tls`` or ``none``."""

    host: str
    port: int
    security: str = "starttls"
    user: str = ""
    password: str = ""


def send(
    message: Message,
    *,
    server: Server,
    sender: str,
    addresses: Sequence[str],
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
) -> None:
    """One message to all ``addresses``; in error when a single one of them is refused.

    A mailbox that was served before another was refused gets the repetition too: its key is the
    Message-ID, by which mail programs know a message again.
    """
    mail = _mail(message, sender, addresses)
    context = context or ssl.create_default_context()
    deadline = Deadline(seconds)
    try:
        with _connected(server, context, seconds) as smtp:
            deadline.watch(smtp.sock)
            if server.security == "starttls":
                smtp.starttls(context=context)
                deadline.watch(smtp.sock)
            if server.user:
                smtp.login(server.user, server.password)
            refused = smtp.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise _of_recipients(error.recipients) from error
    except smtplib.SMTPResponseException as error:
        raise _of_answer(server, error) from error
    except (OSError, ssl.SSLError, smtplib.SMTPException, ValueError) as error:
        why = Sentence("not done in time") if deadline.is_over else in_words(error)
        raise TemporaryError(
            Sentence(
                "The mail server %(host)s:%(port)s did not take the message: %(why)s.",
                host=server.host,
                port=server.port,
                why=why,
            ),
            code="mail_failed",
        ) from error
    finally:
        deadline.end()
    if refused:
        raise _of_recipients(refused)


def _connected(server: Server, context: ssl.SSLContext, seconds: float) -> smtplib.SMTP:
    name = socket.gethostname()  # getfqdn, the default, may ask a name server for a long time
    if server.security == "tls":
        return smtplib.SMTP_SSL(
            server.host, server.port, local_hostname=name, timeout=seconds, context=context
        )
    return smtplib.SMTP(server.host, server.port, local_hostname=name, timeout=seconds)


def _mail(message: Message, sender: str, addresses: Sequence[str]) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = " ".join(message.subject.split())  # a header is one line
    mail["From"] = sender
    mail["To"] = ", ".join(addresses)
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{message.key}@{sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # nobody's holiday answers it
    mail["Beidou-Delivery"] = message.key
    if message.severity == "critical":
        mail["Importance"] = "high"
    mail.set_content(message.text)
    return mail


def _of_recipients(refused: dict[str, tuple[int, bytes]]) -> PermanentError | TemporaryError:
    address, (code, text) = next(iter(refused.items()))
    sentence = Sentence(
        "The mail server refused %(count)s address(es), first %(address)s: %(code)s %(text)s",
        count=len(refused),
        address=address,
        code=code,
        text=shorten(text.decode("utf-8", "replace"), 200),
    )
    if all(each[0] >= 500 for each in refused.values()):
        return PermanentError(sentence, code="mail_refused")
    return TemporaryError(sentence, code="mail_refused")


def _of_answer(
    server: Server, error: smtplib.SMTPResponseException
) -> PermanentError | TemporaryError:
    text = error.smtp_error
    sentence = Sentence(
        "The mail server %(host)s:%(port)s answered %(code)s: %(text)s",
        host=server.host,
        port=server.port,
        code=error.smtp_code,
        text=shorten(text.decode("utf-8", "replace") if isinstance(text, bytes) else text, 200),
    )
    if error.smtp_code >= 500:
        return PermanentError(sentence, code="mail_refused")
    return TemporaryError(sentence, code="mail_failed")
