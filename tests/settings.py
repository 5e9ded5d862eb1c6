"""The product's settings with a data folder of this run, and cheap password hashes."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

if "BEIDOU_DATA_DIR" not in os.environ:
    os.environ["BEIDOU_DATA_DIR"] = tempfile.mkdtemp(prefix="beidou-test-")
    atexit.register(shutil.rmtree, os.environ["BEIDOU_DATA_DIR"], ignore_errors=True)
os.environ.setdefault("BEIDOU_LOG_LEVEL", "WARNING")

from beidou.settings import *  # noqa: E402, F403
from beidou.settings import DATA_DIR, DATABASES, STORAGES  # noqa: E402

# A file, as in the product: threads that race share a database in memory by locks of tables, which
# know no waiting.
if "sqlite3" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# The manifest of hashed names is made by collectstatic, which a test run does not need.
STORAGES = {
    **STORAGES,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
DATABASES["default"]["CONN_MAX_AGE"] = 0  # noqa: F405  as in the web process
ARTIFACT_FOLDERS = [Path("/srv")]
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
WHITENOISE_AUTOREFRESH = True
REST_FRAMEWORK = {**globals()["REST_FRAMEWORK"], "DEFAULT_THROTTLE_CLASSES": []}
