"""Encryption keys: changed without losing a secret, and without saying one."""

from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from beidou.base import rotation
from beidou.base.models import AuditEntry
from machines.models import SshCredential
from tests import factories

pytestmark = pytest.mark.django_db


def stored() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM machines_sshcredential ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


@pytest.fixture
def new_key(settings) -> str:
    """A key put before the old one, as the operator does; three secrets are there already."""
    for number in range(3):
        factories.make_credential(password=f"secret-{number}")
    key = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [key, *settings.ENCRYPTION_KEYS]
    return key


def passwords() -> list[str]:
    return list(SshCredential.objects.order_by("id").values_list("password", flat=True))


def test_secrets_are_not_in_the_database_as_they_are():
    factories.make_credential(password="hunter2")
    assert "hunter2" not in stored()[0]


def test_after_the_rotation_the_new_key_alone_opens_all(new_key, settings):
    list(rotation.rotate())
    settings.ENCRYPTION_KEYS = [new_key]
    assert passwords() == ["secret-0", "secret-1", "secret-2"]


def test_a_second_run_changes_nothing(new_key):
    list(rotation.rotate())
    before = stored()
    assert all(result.rotated == 0 for result in rotation.rotate())
    assert stored() == before


def test_a_rotation_larger_than_a_batch_is_complete(new_key, monkeypatch, settings):
    monkeypatch.setattr(rotation, "BATCH", 2)
    list(rotation.rotate())
    settings.ENCRYPTION_KEYS = [new_key]
    assert passwords() == ["secret-0", "secret-1", "secret-2"]


def test_empty_secrets_stay_empty(new_key):
    factories.make_credential(password="")
    list(rotation.rotate())
    assert stored()[-1] == ""


def test_a_secret_that_no_key_opens_is_reported_and_the_others_are_rotated(new_key, settings):
    lost = Fernet(Fernet.generate_key()).encrypt(b"lost").decode()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE machines_sshcredential SET password = %s "
            "WHERE id = (SELECT min(id) FROM machines_sshcredential)",
            [lost],
        )
    errors = StringIO()
    with pytest.raises(CommandError, match="1 secrets cannot be read"):
        call_command("rotate_secrets", stdout=StringIO(), stderr=errors)
    assert "no key opens rows" in errors.getvalue()
    settings.ENCRYPTION_KEYS = [new_key]
    assert list(SshCredential.objects.order_by("id").values_list("password", flat=True)[1:]) == [
        "secret-1",
        "secret-2",
    ]


def test_the_command_counts_and_is_audited(new_key):
    out = StringIO()
    call_command("rotate_secrets", stdout=out)
    assert "machines_sshcredential.password: 3 encrypted anew" in out.getvalue()
    assert AuditEntry.objects.get().after["rotated"] >= 3


def test_a_new_key_is_a_valid_key():
    out = StringIO()
    call_command("new_encryption_key", stdout=out)
    Fernet(out.getvalue().strip().encode())
