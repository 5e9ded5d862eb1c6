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
            name='machines',
            field=models.TextField(blank=True, help_text='Addresses, ranges, networks, hostnames or serial numbers, looked up each time; empty, where every step can be done with a whole cluster: all of its machines.', max_length=20000, verbose_name='machines'),
        ),
        migrations.AlterField(
            model_name='taskschedule',
            name='template',
            field=models.CharField(help_text='The version that is newest when the schedule is saved is begun each time.', max_length=40, verbose_name='template'),
        ),
    ]
