from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0007_event_archive'),
    ]

    operations = [
        migrations.CreateModel(
            name='EventForgetting',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('held_until', models.DateTimeField(null=True)),
            ],
        ),
    ]
