from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('operations', '0018_who_sent_it'),
    ]

    operations = [
        migrations.AddField(
            model_name='taskschedule',
            name='template_version',
            field=models.PositiveIntegerField(default=0, editable=False, verbose_name='version'),
        ),
        migrations.AddField(
            model_name='taskschedule',
            name='versions_below',
            field=models.JSONField(default=dict, editable=False),
        ),
        migrations.AlterField(
            model_name='taskschedule',
            name='template',
            field=models.CharField(help_text='The version that is newest when the schedule is saved is begun each time.', max_length=40, verbose_name='template'),
        ),
    ]
