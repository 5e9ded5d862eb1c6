"""The secrets of authenticator apps move from django-otp's table, where they could be read, to
ours, where they are encrypted; the old table goes, and with it the readable ones."""

from django.db import migrations

from beidou.base.fields import encrypt

OLD = "otp_totp_totpdevice"
COLUMNS = (
    "user_id", "name", "confirmed", "drift", "last_t", "throttling_failure_timestamp",
    "throttling_failure_count", "created_at", "last_used_at",
)  # fmt: skip


def move(apps, schema_editor):
    connection = schema_editor.connection
    if OLD not in connection.introspection.table_names():
        return
    names = ", ".join(COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT key, {names} FROM {OLD}")  # noqa: S608
        rows = [(encrypt(key), *values) for key, *values in cursor.fetchall()]
        marks = ", ".join(["%s"] * (1 + len(COLUMNS)))
        cursor.executemany(
            f"INSERT INTO base_totpdevice (key, {names}) VALUES ({marks})",  # noqa: S608
            rows,
        )
        cursor.execute(f"DROP TABLE {OLD}")


class Migration(migrations.Migration):

    dependencies = [
        ('base', '0002_authenticator_apps'),
    ]

    operations = [
        migrations.RunPython(move),
    ]
