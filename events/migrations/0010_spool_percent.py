from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0009_refused_events'),
    ]

    operations = [
        migrations.AddField(
            model_name='eventstream',
            name='spool_percent',
            field=models.PositiveIntegerField(default=0, help_text='Of the room that its collector has for the events of all its clusters.', verbose_name='spool full, percent'),
        ),
    ]
