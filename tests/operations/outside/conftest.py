"""A system of the site on the loopback address, and callbacks as it would sign them."""

import json
import time

import pytest

from beidou.base import webhooks
from operations.outside.models import SiteSystem
from tests.fakes.receivers import web_receiver

SECRET = "sixteen letters at least"


@pytest.fixture
def site(settings):
    """What is asked arrives here."""
    settings.WEBHOOK_ALLOW_HTTP = settings.WEBHOOK_ALLOW_LOCAL = True
    with web_receiver() as receiver:
        receiver.status = 202
        yield receiver


@pytest.fixture
def network_system(cluster_a, site):
    return SiteSystem.objects.create(
        cluster=cluster_a, purpose="network", url=site.url, secret=SECRET
    )


@pytest.fixture
def call_back(api):
    """``call_back(request, {"machines": …})`` as a signed POST that names its request; bytes are
    sent as they are.  ``age`` in seconds."""

    def send(request, data, *, secret=SECRET, age=0, signature="", key=None, stamp=None):
        if isinstance(data, dict):
            data = {"id": str(request.key), **data}
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        time_of = int(time.time()) - age if stamp is None else stamp
        signed = signature or f"v1={webhooks.sign(secret, int(time_of), body)}"
        return api().post(
            f"/api/v1/site-requests/{key or request.key}/callback/",
            data=body,
            content_type="application/json",
            headers={"Beidou-Timestamp": str(time_of), "Beidou-Signature": signed},
        )

    return send
