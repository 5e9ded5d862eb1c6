"""What has to be done once before the portal can run: schema, static files, the first user.

Each step looks first whether there is anything to do, so that a second start takes seconds.
"""

import hashlib
import secrets
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from beidou.base import audit, context
from beidou.base.models import User

STAMP = ".collected"
_UNAMBIGUOUS = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def unapplied_migrations() -> list[str]:
    """Names of the migrations that the code has and the database has not."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def migrate() -> bool:
    """Bring the schema up to date; whether there was anything to do."""
    if not unapplied_migrations():
        return False
    call_command("migrate", interactive=False, verbosity=0)
    return True


def _sources() -> str:
    """A digest over names, sizes and times of all static files."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def collect_static() -> bool:
    """Put the static files where the web process serves them; whether anything had changed."""
    stamp = Path(settings.STATIC_ROOT) / STAMP
    sources = _sources()
    if stamp.exists() and stamp.read_text() == sources:
        return False
    call_command("collectstatic", interactive=False, verbosity=0, clear=stamp.exists())
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(sources)
    return True


def generate_password() -> str:
    """20 characters that nobody mistakes for each other: about 114 bits."""
    return "".join(secrets.choice(_UNAMBIGUOUS) for _ in range(20))


def ensure_admin(*, username: str = "admin") -> str | None:
    """Make the first administrator and give the password; ``None`` when there is one already."""
    model: type[User] = get_user_model()
    with context.acting(actor_name="manage.py ensure_admin"), transaction.atomic():
        if model.objects.filter(is_superuser=True, is_active=True).exists():
            return None
        password = generate_password()
        user = model.objects.filter(username=username).first() or model(username=username)
        is_new = user.pk is None
        user.is_active = user.is_staff = user.is_superuser = True
        user.set_password(password)
        user.save()
        audit.record("add" if is_new else "change", user, after={"is_superuser": True})
    return password
