"""The end of the chain is on record from the beginning, so that its absence is always a flaw."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def begin(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Not where entries are without one already: then it was removed."""
    if not apps.get_model("base", "AuditEntry").objects.exists():
        apps.get_model("base", "AuditHead").objects.get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("base", "0004_digests_of_backup_codes")]
    operations = [migrations.RunPython(begin, migrations.RunPython.noop)]
