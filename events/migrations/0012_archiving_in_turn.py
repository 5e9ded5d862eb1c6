from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0011_alert_rules_counted'),
    ]

    operations = [
        migrations.AddField(
            model_name='eventarchiving',
            name='reached',
            field=models.CharField(blank=True, max_length=253),
        ),
    ]
