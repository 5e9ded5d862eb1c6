import django.db.models.deletion
from django.db import migrations, models

from beidou.base.audit import words_of

_AT_ONCE = 2000


def write_words(apps, schema_editor):
    """Of the entries there are: in short queries, for a trail may be long."""
    entries = apps.get_model("base", "AuditEntry").objects.order_by("id")
    words = apps.get_model("base", "AuditWords").objects
    last = 0
    while page := list(entries.filter(id__gt=last)[:_AT_ONCE]):
        words.bulk_create(words.model(entry_id=each.id, text=words_of(each)) for each in page)
        last = page[-1].id


class Migration(migrations.Migration):

    dependencies = [
        ('base', '0007_notices'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditWords',
            fields=[
                ('entry', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='words', serialize=False, to='base.auditentry')),
                ('text', models.TextField()),
            ],
        ),
        migrations.RunPython(write_words, migrations.RunPython.noop, elidable=True),
    ]
