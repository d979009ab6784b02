"""Says of each overlay whether it may stand for a folder of hosts, which was told from its owner before."""

from django.db import migrations, models
from django.db.models import Q

RIGHT = Q(codename='bring_native_code', content_type__app_label='servers')


def mark_host_folders(apps, schema_editor):
    """Mark the overlays that hosts were told by name, or may be told by what their owners may do.

    One without a version got into a blueprint only while it counted as a folder, so servers are started with that.
    """
    alias = schema_editor.connection.alias
    overlays, users = (apps.get_model(*model).objects.using(alias) for model in (('servers', 'Overlay'), ('auth', 'User')))
    rights = apps.get_model('auth', 'Permission').objects.using(alias).filter(RIGHT)
    is_entitled = Q(is_superuser=True) | Q(user_permissions__in=rights) | Q(groups__permissions__in=rights)
    entitled = users.filter(is_entitled, is_active=True, is_staff=True)
    is_in_use = Q(latest=None, blueprint_overlays__isnull=False)
    folders = overlays.filter(Q(owner=None) | Q(owner__in=entitled.values('pk')) | is_in_use)
    overlays.filter(pk__in=list(folders.values_list('pk', flat=True))).update(is_host_folder=True)


class Migration(migrations.Migration):

    dependencies = [
        ('servers', '0024_commands_by_age'),
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.AddField(
            model_name='overlay',
            name='is_host_folder',
            field=models.BooleanField(db_default=False, default=False, help_text='Until it has a version here, servers use the folder of its name on their hosts, native code and all. Only people who may bring native code can say so.', verbose_name='folder of hosts'),
        ),
        migrations.RunPython(mark_host_folders, migrations.RunPython.noop),
    ]
