"""Lets host admins change overlays, as they may change blueprints and servers. The group may be gone, or renamed."""

from django.db import migrations, models

HOST_ADMINS = 'Host admins'


def let_host_admins_change_overlays(apps, schema_editor):
    """Give the group the permission, which nothing asked for until overlays had versions."""
    alias = schema_editor.connection.alias
    permissions = apps.get_model('auth', 'Permission').objects.using(alias).filter(
        content_type__app_label='servers', codename='change_overlay'
    )
    for group in apps.get_model('auth', 'Group').objects.using(alias).filter(name=HOST_ADMINS):
        group.permissions.add(*permissions)


class Migration(migrations.Migration):

    dependencies = [
        ('servers', '0018_uploads'),
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.AlterField(
            model_name='overlayversion',
            name='added_bytes',
            field=models.BigIntegerField(help_text='Of its files and its manifest, what no version of the overlay had before it.'),
        ),
        # Back, an admin takes it away who does not want it.
        migrations.RunPython(let_host_admins_change_overlays, migrations.RunPython.noop),
    ]
