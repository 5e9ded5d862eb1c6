from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0008_event_forgetting'),
    ]

    operations = [
        migrations.AddField(
            model_name='eventstream',
            name='refused',
            field=models.PositiveBigIntegerField(default=0, help_text="Not taken by the event store, and never will be; see the collector's log.", verbose_name='refused'),
        ),
    ]
