"""The ASGI application that uvicorn serves."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "beidou.settings")
# Under ASGI each request has a thread of its own: a connection that outlives the request would
# outlive its thread too, unused and unclosed. Workers keep theirs (see beidou.base.config).
settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
application = get_asgi_application()
