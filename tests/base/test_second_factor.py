"""The secrets of authenticator apps: encrypted, also those of older versions."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.db import connection
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticToken

from beidou.base import audit, rotation, second_factor
from beidou.base.errors import InvalidInput
from beidou.base.models import TotpDevice
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def li(db):
    return factories.make_user("li")


@pytest.fixture
def device(li):
    return second_factor.begin(li)


def stored() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT key FROM base_totpdevice ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def code_of(device: TotpDevice) -> str:
    return f"{totp(device.bin_key):06d}"


def test_the_secret_is_not_in_the_database_as_it_is(device):
    assert len(device.bin_key) == 20
    assert device.key not in stored()[0]


def test_every_device_has_a_secret_of_its_own(device):
    assert second_factor.begin(factories.make_user()).key != device.key


def test_the_apps_address_names_the_portal_the_user_and_the_secret(device):
    secret = second_factor.secret(device).replace(" ", "")
    assert device.config_url == (
        f"otpauth://totp/Beidou%3Ali?secret={secret}&algorithm=SHA1&digits=6&period=30&issuer=Beidou"
    )


@pytest.mark.parametrize("code", ["", "abc", "12345", "-1", "１２３４５６７"])
def test_what_is_no_code_is_wrong(code, device):
    assert device.verify_token(code) is False
    device.refresh_from_db()
    assert device.throttling_failure_count == 1


def test_the_first_right_code_ends_the_slowing_down(device):
    device.throttle_increment()
    device.throttling_failure_timestamp = None
    assert device.verify_token(code_of(device))
    device.refresh_from_db()
    assert device.throttling_failure_count == 0


def test_the_rotation_of_keys_covers_it_and_codes_stay_right(device, settings):
    key = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [key, *settings.ENCRYPTION_KEYS]
    list(rotation.rotate())
    settings.ENCRYPTION_KEYS = [key]
    assert TotpDevice.objects.get().verify_token(code_of(device))


def test_a_secret_that_cannot_be_read_is_said_at_sign_in_and_a_backup_code_helps(
    client, li, device, settings
):
    backup = second_factor.confirm(li, code=code_of(device))[0]
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    client.post("/login/", {"username": "li", "password": "pw"})
    answer = client.post("/login/code/", {"code": "123456"})
    assert "cannot be read with the keys" in answer.content.decode()
    client.post("/login/code/", {"code": backup})
    assert "_auth_user_id" in client.session


def test_a_second_factor_whose_secret_cannot_be_read_can_be_removed(li, device, settings):
    second_factor.confirm(li, code=code_of(device))
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    second_factor.switch_off(li)
    assert not second_factor.is_enabled(li)


def test_the_audit_trail_shows_nothing_of_the_secret(device):
    assert audit.snapshot(device)["key"].startswith(audit.HIDDEN)


# --- from older versions --------------------------------------------------------------------

OLD = """CREATE TABLE otp_totp_totpdevice (
    id integer PRIMARY KEY, name varchar(64), confirmed boolean, key varchar(80), step integer,
    t0 bigint, digits integer, tolerance integer, drift integer, last_t bigint, user_id bigint,
    throttling_failure_count integer, throttling_failure_timestamp timestamp,
    created_at timestamp, last_used_at timestamp)"""


def move() -> None:
    migration = import_module("beidou.base.migrations.0003_encrypt_authenticator_apps")
    migration.move(None, SimpleNamespace(connection=connection))


def test_devices_of_older_versions_go_on_encrypted_and_their_table_goes(li):
    with connection.cursor() as cursor:
        cursor.execute(OLD)
        cursor.execute(
            "INSERT INTO otp_totp_totpdevice VALUES (7, 'authenticator', true, %s, 30, 0, 6, 1, "
            "0, 123, %s, 2, NULL, NULL, NULL)",
            ["ab" * 20, li.pk],
        )
    move()
    device = TotpDevice.objects.get(user=li, confirmed=True)
    assert (device.key, device.last_t, device.throttling_failure_count) == ("ab" * 20, 123, 2)
    assert "abab" not in stored()[0]
    assert "otp_totp_totpdevice" not in connection.introspection.table_names()


def test_where_there_is_no_older_table_nothing_is_moved(device):
    move()
    assert TotpDevice.objects.count() == 1


def test_of_backup_codes_only_digests_are_stored(li, device):
    codes = second_factor.confirm(li, code=code_of(device))
    kept = set(StaticToken.objects.values_list("token", flat=True))
    assert len(kept) == len(codes)
    assert not kept & set(codes)


def test_a_backup_code_is_good_once(li, device):
    code = second_factor.confirm(li, code=code_of(device))[0]
    assert second_factor.verify(li, code=code.upper())
    with pytest.raises(InvalidInput):
        second_factor.verify(li, code=code)
    assert second_factor.backup_codes_left(li) == second_factor.BACKUP_CODES - 1


def test_backup_codes_of_older_versions_go_on(li, device):
    second_factor.confirm(li, code=code_of(device))
    token = StaticToken.objects.first()
    StaticToken.objects.filter(pk=token.pk).update(token="abcd2345")
    migration = import_module("beidou.base.migrations.0004_digests_of_backup_codes")
    StaticToken.objects.exclude(pk=token.pk).delete()
    migration.replace(apps, SimpleNamespace(connection=connection))
    assert second_factor.verify(li, code="abcd2345")
