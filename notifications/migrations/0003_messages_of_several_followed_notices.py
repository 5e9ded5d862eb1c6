"""A message may tell of several notices that somebody waits for."""

from django.db import migrations, models


def copy(apps, schema_editor):
    """What waits or was sent when the portal is upgraded keeps its notice."""
    delivery = apps.get_model("notifications", "Delivery")
    link = delivery.followed.through
    rows = delivery.objects.exclude(notice=None).values_list("pk", "notice_id")
    link.objects.bulk_create(
        (link(delivery_id=key, notice_id=notice) for key, notice in rows.iterator()),
        batch_size=500,
    )


class Migration(migrations.Migration):

    dependencies = [
        ('base', '0009_followed_notices'),
        ('notifications', '0002_followed_notices'),
    ]

    operations = [
        migrations.AddField(
            model_name='delivery',
            name='followed',
            field=models.ManyToManyField(editable=False, help_text='Those that somebody waits for; each is in one message per receiver.', related_name='+', to='base.notice'),
        ),
        migrations.RunPython(copy, migrations.RunPython.noop),
    ]
