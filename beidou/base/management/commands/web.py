"""``manage.py web``: the ASGI server."""

import warnings
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Serve pages, API and live streams at BEIDOU_HOST:BEIDOU_PORT."

    def handle(self, *args: Any, **options: Any) -> None:
        # WhiteNoise gives files as plain iterators, which Django reads whole: they are small.
        warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous")
        uvicorn.run(
            "beidou.asgi:application",
            host=settings.HOST,
            port=settings.PORT,
            lifespan="off",
            log_config=None,  # the portal's own logging is configured already
            access_log=False,  # requests are logged with their ids by the middleware
            server_header=False,
            proxy_headers=False,  # BEIDOU_TRUST_PROXY decides, see middleware.client_address
            timeout_graceful_shutdown=5,  # open live streams do not hold up a stop
        )
