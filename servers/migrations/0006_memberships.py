"""Memberships, permissions of the whole panel, and the group of those who have them.

Until now staff could do everything in the panel. So all who are staff now come into the group, and can do what they
could; who becomes staff later can do what they are given.
"""

import django.db.models.deletion
from django.apps import apps as current_apps
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

HOST_ADMINS = 'Host admins'
GIVEN = [
    'install', 'rollback', 'check', 'drain', 'view_host',
    'view_any_server', 'operate_any_server', 'set_any_port',
    'view_server', 'change_server', 'delete_server',
    'view_blueprint', 'change_blueprint', 'delete_blueprint',
    'view_overlay', 'bring_native_code',
]


def make_host_admins(apps, schema_editor):
    """Make the group, with its permissions, and put today's staff into it."""
    alias = schema_editor.connection.alias
    # On an empty database permissions are made only when all migrations are through.
    create_permissions(
        current_apps.get_app_config('servers'), verbosity=0, interactive=False, using=alias, apps=apps
    )
    permissions = apps.get_model('auth', 'Permission').objects.using(alias).filter(
        content_type__app_label='servers', codename__in=GIVEN
    )
    group, _ = apps.get_model('auth', 'Group').objects.using(alias).get_or_create(name=HOST_ADMINS)
    group.permissions.add(*permissions)
    staff = apps.get_model('auth', 'User').objects.using(alias).filter(is_staff=True)
    group.user_set.add(*staff.exclude(is_superuser=True))


class Migration(migrations.Migration):

    dependencies = [
        ('servers', '0005_walls'),
        ('contenttypes', '0002_remove_content_type_name'),
        ('auth', '0012_alter_user_first_name_max_length'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='host',
            options={'ordering': ['name'], 'permissions': [('install', 'Can install and update the game'), ('rollback', 'Can roll the game back'), ('check', 'Can look for updates of the game'), ('drain', 'Can drain hosts')]},
        ),
        migrations.AlterModelOptions(
            name='overlay',
            options={'ordering': ['name'], 'permissions': [('bring_native_code', 'Can bring native code onto hosts')]},
        ),
        migrations.AlterModelOptions(
            name='server',
            options={'ordering': ['name'], 'permissions': [('view_any_server', 'Can see every server'), ('operate_any_server', 'Can start and stop every server'), ('set_any_port', 'Can give a server any port and bind address')]},
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('viewer', 'viewer'), ('operator', 'operator'), ('manager', 'manager')], max_length=16)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='servers.server')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['user__username'],
                'constraints': [models.UniqueConstraint(fields=('server', 'user'), name='one_role_per_server'), models.CheckConstraint(condition=models.Q(('role__in', ['viewer', 'operator', 'manager'])), name='role_is_known')],
            },
        ),
        # Back, they have what they had anyway: all of it, as staff.
        migrations.RunPython(make_host_admins, migrations.RunPython.noop),
    ]
