"""Indexes unfinished and finished jobs apart. What tells them apart is `finished_at`, so each final job gets one."""

from django.conf import settings
from django.db import migrations, models
from django.db.models import F


def fill_finished_at(apps, schema_editor):
    """Let jobs that are over have ended when they last changed, where nothing says when: else no list has them."""
    jobs = apps.get_model('jobs', 'Job').objects.using(schema_editor.connection.alias)
    over = jobs.filter(state__in=['succeeded', 'failed', 'cancelled'], finished_at=None)
    over.update(finished_at=F('updated_at'))


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0007_job_upload'),
        ('servers', '0024_commands_by_age'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunPython(fill_finished_at, migrations.RunPython.noop),
        migrations.RemoveIndex(
            model_name='job',
            name='jobs_of_server_by_state',
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('finished_at__isnull', True)), fields=['server', 'id'], name='unfinished_jobs_of_server'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('finished_at__isnull', False)), fields=['server', 'state', 'id'], name='finished_jobs_of_server'),
        ),
    ]
