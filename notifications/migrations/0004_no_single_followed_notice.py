from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0003_messages_of_several_followed_notices'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='delivery',
            name='notice',
        ),
    ]
