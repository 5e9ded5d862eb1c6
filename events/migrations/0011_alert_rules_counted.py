from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0010_spool_percent'),
    ]

    operations = [
        migrations.AddField(
            model_name='alertrule',
            name='counted_as',
            field=models.CharField(blank=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name='alertrule',
            name='counted_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
