from django.db import migrations, models


def of_kinds(apps, schema_editor):
    """Until now the kind alone said it."""
    Operation = apps.get_model("operations", "Operation")
    Operation.objects.filter(kind="HealthCheck").update(mutating=False)


class Migration(migrations.Migration):

    dependencies = [
        ('operations', '0012_groups_of_machines'),
    ]

    operations = [
        migrations.AddField(
            model_name='operation',
            name='mutating',
            field=models.BooleanField(default=True, editable=False, verbose_name='changes something'),
        ),
        migrations.RunPython(of_kinds, migrations.RunPython.noop),
    ]
