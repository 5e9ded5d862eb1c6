"""Replace the backup codes of second factors by their digests; they go on working."""

from django.db import migrations

from beidou.base.second_factor import digest


def replace(apps, schema_editor):
    for token in apps.get_model("otp_static", "StaticToken").objects.iterator():
        token.token = digest(token.token)
        token.save(update_fields=["token"])


class Migration(migrations.Migration):
    dependencies = [
        ("base", "0003_encrypt_authenticator_apps"),
        ("otp_static", "0003_add_timestamps"),
    ]

    operations = [migrations.RunPython(replace, migrations.RunPython.noop)]
