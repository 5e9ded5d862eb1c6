import pytest

from tests.fakes.receivers import mail_server as start_mail_server
from tests.fakes.receivers import web_receiver as start_web_receiver


@pytest.fixture
def mail_server(settings):
    with start_mail_server() as server:
        settings.MAIL_SERVER = {
            "host": server.host,
            "port": server.port,
            "security": "none",
            "user": "",
            "password": "",
        }
        settings.MAIL_FROM = "beidou@example.com"
        settings.PUBLIC_URL = "https://portal.example.com"
        yield server


@pytest.fixture
def web_receiver(settings):
    """On the loopback address and without TLS, which the settings then must allow."""
    settings.WEBHOOK_ALLOW_HTTP = settings.WEBHOOK_ALLOW_LOCAL = True
    settings.PUBLIC_URL = "https://portal.example.com"
    with start_web_receiver() as receiver:
        yield receiver
