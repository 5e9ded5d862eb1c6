"""A portal's settings and database in a temporary folder, for measures that call it in process."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import django


@contextlib.contextmanager
def portal_settings() -> Iterator[str]:
    """Set Django up on a fresh database; yields the data folder, removed afterwards."""
    folder = tempfile.mkdtemp(prefix="beidou-bench-")
    os.environ["BEIDOU_DATA_DIR"] = folder
    os.environ.setdefault("BEIDOU_LOG_LEVEL", "ERROR")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "beidou.settings")
    django.setup()
    from django.core.management import call_command  # noqa: PLC0415  needs the line above

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty() -> None:
    """Leave nothing of an earlier measure: its clusters would be watched, its machines in the
    way."""
    from django.core.management import call_command  # noqa: PLC0415  needs Django set up

    call_command("flush", interactive=False, verbosity=0)
