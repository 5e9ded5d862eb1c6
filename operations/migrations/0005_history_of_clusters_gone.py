"""Versions of the operation settings of clusters that were un-adopted before they went with them."""

from django.db import migrations


def sweep(apps, schema_editor):
    history = apps.get_model('operations', 'HistoricalClusterSettings')
    clusters = apps.get_model('clusters', 'Cluster').objects.values('pk')
    history.objects.exclude(cluster_id__in=clusters).delete()


class Migration(migrations.Migration):

    dependencies = [
        ('operations', '0004_stored_sentences'),
    ]

    operations = [migrations.RunPython(sweep, migrations.RunPython.noop)]
