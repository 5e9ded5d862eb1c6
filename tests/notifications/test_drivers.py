"""Mail, webhooks and chats against real servers on the loopback address."""

import hashlib
import hmac
import json
import re
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from beidou.base import addresses
from beidou.base.addresses import Limits
from beidou.base.errors import InvalidInput, PermanentError, TemporaryError
from notifications.drivers import chat, mail, webhook
from notifications.drivers.message import Message
from tests.fakes.authority import Authority
from tests.fakes.receivers import mail_server as start_mail_server
from tests.fakes.receivers import web_receiver as start_web_receiver

LOCAL = Limits(allow_http=True, allow_local=True)
SECRET = "a secret of the webhook"
MESSAGE = Message(
    key="7a0f9f06-0000-4000-8000-000000000001",
    severity="critical",
    subject="[Beidou] 集群 a is unreachable.",
    text="集群 a is unreachable.\nhttps://portal.example.com/",
    data={"id": "7a0f9f06-0000-4000-8000-000000000001", "text": "集群"},
)


@pytest.fixture
def web():
    with start_web_receiver() as receiver:
        yield receiver


@pytest.fixture
def mailing():
    with start_mail_server() as server:
        yield server


def post(receiver, **values):
    webhook.send(MESSAGE, **{"url": receiver.url, "secret": SECRET, "limits": LOCAL, **values})


def send_mail(server, *addresses, **values):
    mail.send(
        MESSAGE,
        server=mail.Server(server.host, server.port, "none"),
        sender="beidou@example.com",
        addresses=addresses or ("oncall@example.com",),
        **values,
    )


# --- webhooks -------------------------------------------------------------------------------------


def test_a_webhook_is_signed_over_its_time_and_body(web):
    post(web)
    (request,) = web.requests
    stamp = request.headers["Beidou-Timestamp"]
    expected = hmac.new(SECRET.encode(), f"{stamp}.".encode() + request.body, hashlib.sha256)
    assert request.headers["Beidou-Signature"] == f"v1={expected.hexdigest()}"
    assert abs(time.time() - int(stamp)) < 60
    assert request.headers["Beidou-Delivery"] == MESSAGE.key
    assert json.loads(request.body)["text"] == "集群"


def documented_example() -> dict[str, Any]:
    page = Path(__file__).parents[2] / "docs" / "notifications.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  what the page tells receivers to do
    return names


def test_the_example_of_the_page_takes_what_we_send_and_nothing_else(web):
    post(web)
    (request,) = web.requests
    is_genuine = documented_example()["is_genuine"]
    assert is_genuine(SECRET, request.headers, request.body)
    assert not is_genuine("another secret", request.headers, request.body)
    assert not is_genuine(SECRET, request.headers, request.body + b" ")
    old = {**request.headers, "Beidou-Timestamp": str(int(time.time()) - 3600)}
    assert not is_genuine(SECRET, old, request.body)


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_may_pass_is_tried_again(web, status):
    web.status, web.answer_headers = status, {"Retry-After": "120"}
    with pytest.raises(TemporaryError, match=f"answered {status}") as caught:
        post(web)
    assert caught.value.retry_after == 120


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_what_is_refused_is_not(web, status):
    web.status = status
    with pytest.raises(PermanentError, match=f"answered {status}"):
        post(web)


def test_a_redirect_is_not_followed(web):
    web.status, web.answer_headers = 307, {"Location": web.url + "/elsewhere"}
    with pytest.raises(PermanentError, match="redirects are not followed"):
        post(web)
    assert [request.path for request in web.requests] == ["/hook"]


def test_a_webhook_that_says_nothing_is_cut_off(web):
    web.released.clear()
    with pytest.raises(TemporaryError, match="127.0.0.1 did not take the message"):
        post(web, seconds=0.3)


@pytest.mark.parametrize(
    ("scheme", "first", "more"),
    [
        ("http", b"HTTP/1.1 500 No\r\n", b"X: y\r\n"),
        ("https", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00"),
    ],
)
def test_a_webhook_that_drips_is_cut_off(scheme, first, more):
    """Each byte is in time, and there is always one more: of a head, or of a handshake."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            line, _address = server.accept()
            with line:
                line.sendall(first)
                try:
                    while not over.wait(0.02):
                        line.sendall(more)
                except OSError:
                    return

        over = threading.Event()
        thread = threading.Thread(target=drip)
        thread.start()
        url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/"
        begun = time.monotonic()
        try:
            with pytest.raises(TemporaryError):
                webhook.send(MESSAGE, url=url, secret=SECRET, limits=LOCAL, seconds=0.5)
        finally:
            over.set()
            thread.join()
        assert time.monotonic() - begun < 10


def test_nobody_listening_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TemporaryError, match="it refused the connection"):
        webhook.send(
            MESSAGE, url=f"http://127.0.0.1:{port}/", secret=SECRET, limits=LOCAL, seconds=5
        )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "write https://host/path"),
        ("https://", "write https://host/path"),
        ("https://[::1/", "write https://host/path"),
        ("https://example.com:99999/", "write https://host/path"),
        ("https://user:pw@example.com/", "Leave user"),
        ("https://example.com/a b", "no spaces"),
        ("http://example.com/", "must begin with https://"),
        ("https://127.0.0.1/", "portal's own machine"),
        ("https://[::1]/", "portal's own machine"),
        ("https://[::ffff:127.0.0.1]/", "portal's own machine"),
        ("https://[64:ff9b::7f00:1]/", "portal's own machine"),
        ("https://169.254.169.254/latest/meta-data", "portal's own machine"),
        ("https://0.0.0.0/", "portal's own machine"),
        ("https://[fe80::1]/", "portal's own machine"),
    ],
)
def test_where_a_webhook_may_not_lead(url, why):
    with pytest.raises(InvalidInput, match=why):
        addresses.check(url, Limits())


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
def test_a_name_of_the_own_machine_is_refused_when_it_is_resolved(host):
    with pytest.raises(PermanentError, match="portal's own machine"):
        webhook.send(
            MESSAGE, url=f"http://{host}:1/", secret=SECRET, limits=Limits(allow_http=True)
        )


def test_private_networks_are_allowed():
    assert addresses.check("https://10.0.0.5:8443/hook", Limits()).port == 8443
    assert addresses.resolve("10.0.0.5", 443, Limits()) == "10.0.0.5"


def test_a_list_of_hosts_is_the_limit():
    limits = Limits(hosts=("hooks.example.com", "*.corp.example.com"))
    for host in ("hooks.example.com", "a.corp.example.com", "HOOKS.example.com"):
        addresses.check(f"https://{host}/x", limits)
    for host in ("example.com", "hooks.example.com.evil.org", "corp.example.com"):
        with pytest.raises(InvalidInput, match="BEIDOU_WEBHOOK_HOSTS"):
            addresses.check(f"https://{host}/x", limits)


def test_a_name_that_nobody_knows_may_be_known_later():
    with pytest.raises(TemporaryError, match="is not known here"):
        addresses.resolve("no-such-host.invalid", 443, Limits())


@pytest.fixture(scope="module")
def authority():
    return Authority()


def tls_server(authority, tmp_path, *names):
    issued = authority.issue("hook", names=names)
    files = [tmp_path / "certificate.pem", tmp_path / "key.pem"]
    for path, text in zip(files, (issued.certificate_pem, issued.key_pem), strict=True):
        path.write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return start_web_receiver(context)


def test_a_webhook_with_tls_is_asked_for_the_certificate_of_its_name(authority, tmp_path):
    trusting = ssl.create_default_context(cadata=authority.ca_pem)
    with tls_server(authority, tmp_path, "localhost") as web:
        url = web.url.replace("127.0.0.1", "localhost")
        post(web, url=url, context=trusting)
        with pytest.raises(TemporaryError, match="certificate verify failed"):
            post(web, context=trusting)  # 127.0.0.1 is not the name in it
        with pytest.raises(TemporaryError, match="certificate verify failed"):
            post(web, url=url)  # nobody trusts this authority
    assert len(web.requests) == 1
    assert web.requests[0].headers["Host"].startswith("localhost:")


# --- mail -----------------------------------------------------------------------------------------


def test_a_mail_arrives_with_its_key(mailing):
    send_mail(mailing, "a@example.com", "b@example.com")
    (got,) = mailing.mails
    assert got["Subject"] == MESSAGE.subject
    assert got["To"] == "a@example.com, b@example.com"
    assert got["Message-ID"] == f"<{MESSAGE.key}@example.com>"
    assert got.get_content().splitlines() == MESSAGE.text.splitlines()
    assert mailing.recipients == [["a@example.com", "b@example.com"]]


def test_a_line_break_in_a_title_adds_no_header(mailing):
    evil = Message(key="k", severity="info", subject="a\r\nBcc: eve@example.com", text="x")
    mail.send(
        evil,
        server=mail.Server(mailing.host, mailing.port, "none"),
        sender="beidou@example.com",
        addresses=["a@example.com"],
    )
    assert mailing.mails[0]["Bcc"] is None
    assert mailing.recipients == [["a@example.com"]]


def test_a_mailbox_that_does_not_exist_is_named(mailing):
    mailing.refuses = {"gone@example.com": "550 no such mailbox"}
    with pytest.raises(PermanentError, match="gone@example.com: 550 no such mailbox"):
        send_mail(mailing, "gone@example.com")
    with pytest.raises(PermanentError, match=r"1 address\(es\)"):
        send_mail(mailing, "gone@example.com", "a@example.com")


def test_a_full_mailbox_is_tried_again(mailing):
    mailing.refuses = {"full@example.com": "452 too much"}
    with pytest.raises(TemporaryError, match="452 too much"):
        send_mail(mailing, "full@example.com")


@pytest.mark.parametrize(
    ("answer", "kind"), [("451 later", TemporaryError), ("554 spam", PermanentError)]
)
def test_a_message_that_the_server_does_not_take(mailing, answer, kind):
    mailing.answer = answer
    with pytest.raises(kind, match=answer.replace(" ", ": ")):
        send_mail(mailing)


def test_a_mail_server_without_starttls_gets_no_password(mailing):
    server = mail.Server(mailing.host, mailing.port, "starttls", "user", "geheim")
    with pytest.raises(TemporaryError) as caught:
        mail.send(MESSAGE, server=server, sender="a@example.com", addresses=["b@example.com"])
    assert "geheim" not in str(caught.value)
    assert mailing.mails == []


def test_a_mail_server_that_says_nothing_is_cut_off():
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = mail.Server("127.0.0.1", server.getsockname()[1], "none")
        with pytest.raises(TemporaryError, match="did not take the message"):
            mail.send(
                MESSAGE,
                server=silent,
                sender="a@example.com",
                addresses=["b@example.com"],
                seconds=0.3,
            )


# --- chats ----------------------------------------------------------------------------------------

FEISHU = "feishu://0a1b2c3d-token"


@pytest.mark.parametrize(
    ("channel", "url"),
    [
        ("slack", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"),
        ("dingtalk", "dingtalk://secret@abcdef0123"),
        ("feishu", FEISHU),
        ("wecom", "wecombot://abc-123-def"),
    ],
)
def test_the_chats_that_may_be_used(channel, url):
    assert chat.check(channel, url) is not None


@pytest.mark.parametrize(
    ("channel", "url", "why"),
    [
        ("slack", "json://169.254.169.254/", "begin with slack://"),
        ("slack", "file:///etc/passwd", "begin with slack://"),
        ("slack", FEISHU, "begin with slack://"),
        ("slack", "slack://T1JJ3T3L2", "with all of its tokens"),
        ("feishu", "feishu://", "with all of its tokens"),
        ("feishu", f"{FEISHU}?verify=no", "Leave parameters"),
    ],
)
def test_other_services_and_half_addresses_are_refused(channel, url, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        chat.check(channel, url)
    assert "T1JJ3T3L2" not in str(caught.value)


@pytest.fixture
def feishu(web, monkeypatch):
    """Feishu's address is fixed in apprise; here it is that of our own server."""
    service = type(chat.check("feishu", FEISHU))
    monkeypatch.setattr(service, "notify_url", web.url + "/{token}")
    monkeypatch.setattr(service, "request_rate_per_sec", 0)
    web.answer = b'{"code": 0}'
    return web


def test_a_chat_gets_the_message(feishu):
    chat.send(MESSAGE, channel="feishu", url=FEISHU)
    (request,) = feishu.requests
    assert request.path == "/hook/0a1b2c3d-token"
    assert "集群 a is unreachable." in json.loads(request.body)["content"]["text"]


def test_a_long_text_stays_one_message(feishu):
    long = Message(key="k", severity="info", subject="s", text="集" * 20_000)
    chat.send(long, channel="feishu", url=FEISHU)
    assert len(feishu.requests) == 1


@pytest.mark.parametrize(("status", "answer"), [(500, b""), (302, b""), (200, b'{"code": 9499}')])
def test_a_chat_that_refuses_is_tried_again(feishu, status, answer):
    feishu.status, feishu.answer = status, answer
    feishu.answer_headers = {"Location": feishu.url} if status == 302 else {}
    with pytest.raises(TemporaryError, match="Feishu did not take the message") as caught:
        chat.send(MESSAGE, channel="feishu", url=FEISHU)
    assert "0a1b2c3d" not in str(caught.value)
    assert len(feishu.requests) == 1
