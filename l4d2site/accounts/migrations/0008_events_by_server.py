"""An index for the events of one server, newest first."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0007_actors'),
        ('servers', '0024_commands_by_age'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name='accountevent',
            index=models.Index(fields=['server', 'at', 'id'], name='accounts_event_of_server'),
        ),
    ]
