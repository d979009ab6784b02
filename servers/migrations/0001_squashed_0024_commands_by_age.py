"""What the first 24 migrations make, in one step, so that a new database is ready in a third of the time.

A database that has some of them already gets the others one by one.
"""

from importlib import import_module

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
import servers.models.validation
import uuid
from django.conf import settings
from django.db import migrations, models

from servers.migrations._tables import CreateModels


memberships = import_module('servers.migrations.0006_memberships')
host_admins = import_module('servers.migrations.0019_host_admins_change_overlays')


class Migration(migrations.Migration):

    replaces = [
        ('servers', '0001_initial'),
        ('servers', '0002_consoles_crashes_limits_releases'),
        ('servers', '0003_secrets_chain_addresses'),
        ('servers', '0004_own_bytes'),
        ('servers', '0005_walls'),
        ('servers', '0006_memberships'),
        ('servers', '0007_reports'),
        ('servers', '0008_runs'),
        ('servers', '0009_console_commands'),
        ('servers', '0010_player_sessions'),
        ('servers', '0011_bans'),
        ('servers', '0012_host_meters'),
        ('servers', '0013_server_tags'),
        ('servers', '0014_game_admins'),
        ('servers', '0015_maps_and_console_names'),
        ('servers', '0016_overlay_versions'),
        ('servers', '0017_version_charges'),
        ('servers', '0018_uploads'),
        ('servers', '0019_host_admins_change_overlays'),
        ('servers', '0020_run_loaded'),
        ('servers', '0021_starters_and_plugins'),
        ('servers', '0022_laid_out_versions'),
        ('servers', '0023_state_words'),
        ('servers', '0024_commands_by_age'),
    ]

    initial = True

    dependencies = [
        ('contenttypes', '0002_remove_content_type_name'),
        ('auth', '0012_alter_user_first_name_max_length'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    tables = [
        migrations.CreateModel(
            name='ConsoleNames',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=64, unique=True)),
                ('names', models.JSONField(default=list)),
                ('has_private_say', models.BooleanField(default=False, help_text='Whether sm_psay is among them: SourceMod says something to one.')),
                ('made_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'verbose_name_plural': 'console names',
            },
        ),
        migrations.CreateModel(
            name='Blueprint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=32, unique=True, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9-]{0,31}\\Z', 'Use 1 to 32 lower-case letters, digits and dashes, starting with a letter or digit.')])),
                ('is_shared', models.BooleanField(default=False, help_text='Every owner may make servers from it; only you change it.', verbose_name='shared')),
                ('arguments', models.TextField(blank=True, help_text='What srcds is started with, such as +map c1m1_hotel -maxplayers 8.', validators=[servers.models.validation.validate_arguments], verbose_name='launch arguments')),
                ('config', models.TextField(blank=True, help_text='Goes into cfg/server.cfg, before the server’s own config. Plain ASCII.', validators=[servers.models.validation.validate_config])),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('cpu_weight', models.PositiveIntegerField(blank=True, help_text='Its share where servers compete for a busy processor: 1 to 10000, and 100 is what everything else has. An idle processor is never withheld.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10000)], verbose_name='CPU weight')),
                ('memory_limit_mib', models.PositiveIntegerField(blank=True, help_text='The most that a server may take. One that wants more is ended by the kernel, and restarted as after a crash. 2048 is plenty for most.', null=True, validators=[django.core.validators.MinValueValidator(512, 'The game needs %(limit_value)s MiB at the least: with less it would be ended at each start.'), django.core.validators.MaxValueValidator(1048576)], verbose_name='memory, in MiB')),
                ('tasks_limit', models.PositiveIntegerField(blank=True, help_text='The most that a server may have at a time. More cannot be started: what the game or a plugin wanted one for fails, and the game may crash.', null=True, validators=[django.core.validators.MinValueValidator(32, 'The game needs %(limit_value)s at the least: with fewer it does not start.'), django.core.validators.MaxValueValidator(32768)], verbose_name='processes and threads')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='blueprints', to=settings.AUTH_USER_MODEL)),
                ('overlays', models.ManyToManyField(blank=True, related_name='blueprints', through='servers.BlueprintOverlay', to='servers.overlay')),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('name__regex', '\\A[a-z0-9][a-z0-9-]{0,31}\\Z')), name='blueprint_name_is_valid')],
            },
        ),
        migrations.CreateModel(
            name='ConsoleCommand',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('requested_by_name', models.CharField(blank=True, max_length=150)),
                ('typed', models.TextField(blank=True)),
                ('text', models.TextField()),
                ('state', models.CharField(choices=[('queued', 'waits for the host’s worker'), ('sent', 'sent'), ('answered', 'answered'), ('typed', 'typed into the console'), ('unanswered', 'sent, no answer'), ('lost', 'sent, answer lost'), ('failed', 'not sent')], default='queued', max_length=16)),
                ('answer', models.TextField(blank=True)),
                ('answer_bytes', models.PositiveIntegerField(default=0)),
                ('remark', models.TextField(blank=True, help_text='What there is to say of its end, for people.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('sent_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('requested_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='console_commands', to='servers.server')),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['-created_at', '-id'], name='commands_by_age'), models.Index(fields=['server', '-id'], name='commands_of_server'), models.Index(fields=['state', 'server'], name='commands_by_state')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', 'sent')), fields=('server',), name='one_command_at_a_time')],
            },
        ),
        migrations.CreateModel(
            name='Host',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=32, unique=True, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9-]{0,31}\\Z', 'Use 1 to 32 lower-case letters, digits and dashes, starting with a letter or digit.')])),
                ('address', models.CharField(blank=True, help_text='Name or IP address that players connect to. Shown on server pages.', max_length=255)),
                ('driver', models.CharField(blank=True, editable=False, max_length=16)),
                ('game_source', models.CharField(blank=True, editable=False, max_length=16)),
                ('layering', models.CharField(blank=True, editable=False, max_length=16)),
                ('layering_detail', models.TextField(blank=True, editable=False)),
                ('build_id', models.CharField(blank=True, editable=False, max_length=32)),
                ('disk_free_bytes', models.BigIntegerField(editable=False, null=True)),
                ('reported_at', models.DateTimeField(editable=False, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('is_draining', models.BooleanField(default=False, help_text='Its workers take no more jobs, and no new server is placed on it.', verbose_name='draining')),
                ('latest_build_at', models.DateTimeField(editable=False, help_text='When Steam said so; it may have changed since.', null=True)),
                ('latest_build_id', models.CharField(blank=True, editable=False, help_text='What Steam hands out.', max_length=32)),
                ('limits_without_effect', models.CharField(blank=True, editable=False, help_text='Which limits of blueprints nothing holds servers to here.', max_length=64)),
                ('load_average', models.FloatField(editable=False, help_text='Of the last minute, as a share of its processors.', null=True)),
                ('bind_address', models.GenericIPAddressField(blank=True, help_text='The address that its game servers bind to (-ip), such as 0.0.0.0. Empty: the game chooses.', null=True, protocol='IPv4', verbose_name='bind address')),
                ('taken_ports', models.JSONField(blank=True, default=list, editable=False, help_text='Ports that other programs hold, as its worker saw.')),
                ('walls', models.JSONField(blank=True, default=list, editable=False, help_text="What keeps a game's code in on this host.")),
                ('overlays_reported_at', models.DateTimeField(editable=False, help_text='When its overlays, or what its release has, were last found to have changed.', null=True)),
                ('disk_total_bytes', models.BigIntegerField(editable=False, null=True)),
                ('findings', models.JSONField(blank=True, default=list, editable=False, help_text='What its worker’s doctor found: subject, text, cure and severity of each.')),
                ('findings_at', models.DateTimeField(editable=False, help_text='When it looked last, whatever it found.', null=True)),
                ('memory_available_bytes', models.BigIntegerField(editable=False, null=True)),
                ('memory_total_bytes', models.BigIntegerField(editable=False, null=True)),
            ],
            options={
                'ordering': ['name'],
                'permissions': [('install', 'Can install and update the game'), ('rollback', 'Can roll the game back'), ('check', 'Can look for updates of the game'), ('drain', 'Can drain hosts')],
                'constraints': [models.CheckConstraint(condition=models.Q(('name__regex', '\\A[a-z0-9][a-z0-9-]{0,31}\\Z')), name='host_name_is_valid')],
            },
        ),
        migrations.CreateModel(
            name='Overlay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=32, unique=True, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9-]{0,31}\\Z', 'Use 1 to 32 lower-case letters, digits and dashes, starting with a letter or digit.')])),
                ('description', models.TextField(blank=True)),
                ('is_shared', models.BooleanField(default=True, help_text='Every owner may use it in blueprints.', verbose_name='shared')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('owner', models.ForeignKey(blank=True, help_text='Who brings its versions, beside the admins.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='overlays', to=settings.AUTH_USER_MODEL)),
                ('latest', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='servers.overlayversion')),
            ],
            options={
                'ordering': ['name'],
                'permissions': [('bring_native_code', 'Can bring native code onto hosts')],
                'constraints': [models.CheckConstraint(condition=models.Q(('name__regex', '\\A[a-z0-9][a-z0-9-]{0,31}\\Z')), name='overlay_name_is_valid')],
            },
        ),
        migrations.CreateModel(
            name='BlueprintOverlay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(default=1)),
                ('blueprint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='blueprint_overlays', to='servers.blueprint')),
                ('overlay', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='blueprint_overlays', to='servers.overlay')),
                ('version', models.ForeignKey(blank=True, help_text='The version that servers start with; empty: the latest.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='pinned_places', to='servers.overlayversion')),
            ],
            options={
                'ordering': ['position'],
                'constraints': [models.UniqueConstraint(fields=('blueprint', 'overlay'), name='overlay_once_per_blueprint')],
            },
        ),
        migrations.CreateModel(
            name='OverlayReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('campaigns', models.JSONField(default=list)),
                ('maps', models.JSONField(default=list, help_text='Lower-case names without .bsp.')),
                ('version', models.PositiveSmallIntegerField(default=1)),
                ('looked_at', models.DateTimeField(help_text='When it was found to be so for the first time.')),
                ('name', models.CharField(max_length=32)),
                ('fingerprint', models.CharField(blank=True, help_text='Another one once a file has changed; empty if they cannot be looked at.', max_length=32)),
                ('files', models.PositiveIntegerField(default=0)),
                ('size_bytes', models.BigIntegerField(default=0)),
                ('findings', models.JSONField(default=list)),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='overlay_reports', to='servers.host')),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.UniqueConstraint(fields=('host', 'name'), name='overlay_report_once_per_host')],
            },
        ),
        migrations.CreateModel(
            name='OverlayVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('campaigns', models.JSONField(default=list)),
                ('maps', models.JSONField(default=list, help_text='Lower-case names without .bsp.')),
                ('version', models.PositiveSmallIntegerField(default=1)),
                ('looked_at', models.DateTimeField(help_text='When it was found to be so for the first time.')),
                ('number', models.PositiveIntegerField()),
                ('digest', models.CharField(max_length=64)),
                ('reference', models.CharField(help_text='What servers are made of it by.', max_length=128, unique=True)),
                ('files', models.PositiveIntegerField()),
                ('size_bytes', models.BigIntegerField()),
                ('added_bytes', models.BigIntegerField(help_text='Of its files and its manifest, what no version of the overlay had before it.')),
                ('has_native_code', models.BooleanField(default=False)),
                ('findings', models.JSONField(default=list)),
                ('note', models.CharField(blank=True, max_length=200)),
                ('origin', models.CharField(blank=True, help_text='Where it came from.', max_length=200)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('created_by_name', models.CharField(blank=True, max_length=150)),
                ('plugins', models.JSONField(help_text='What its plugins need and provide, as hostops.specs.PluginNeeds; null: not all were read.', null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('overlay', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='servers.overlay')),
            ],
            options={
                'ordering': ['-number'],
                'constraints': [models.UniqueConstraint(fields=('overlay', 'number'), name='overlay_version_once')],
            },
        ),
        migrations.CreateModel(
            name='LaidOutVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('found_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='laid_out_versions', to='servers.host')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='laid_out', to='servers.overlayversion')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('host', 'version'), name='laid_out_once_per_host')],
            },
        ),
        migrations.CreateModel(
            name='Release',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('build_id', models.CharField(max_length=32)),
                ('is_current', models.BooleanField(default=False)),
                ('installed_at', models.DateTimeField()),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='releases', to='servers.host')),
            ],
            options={
                'ordering': ['-installed_at', '-build_id'],
                'constraints': [models.UniqueConstraint(fields=('host', 'build_id'), name='release_once_per_host'), models.UniqueConstraint(condition=models.Q(('is_current', True)), fields=('host',), name='one_current_release_per_host')],
            },
        ),
        migrations.CreateModel(
            name='ReleaseReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('campaigns', models.JSONField(default=list)),
                ('maps', models.JSONField(default=list, help_text='Lower-case names without .bsp.')),
                ('version', models.PositiveSmallIntegerField(default=1)),
                ('looked_at', models.DateTimeField(help_text='When it was found to be so for the first time.')),
                ('build_id', models.CharField(max_length=32)),
                ('obstacles', models.JSONField(default=list)),
                ('host', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='release_report', to='servers.host')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Server',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=32, unique=True, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9-]{0,31}\\Z', 'Use 1 to 32 lower-case letters, digits and dashes, starting with a letter or digit.'), servers.models.validation.validate_server_name])),
                ('port', models.PositiveIntegerField(blank=True, help_text='UDP for the game, TCP for RCON. Leave empty to get the next free one.', validators=[django.core.validators.MinValueValidator(1024), django.core.validators.MaxValueValidator(65535)])),
                ('arguments', models.TextField(blank=True, help_text='Added after the blueprint’s.', validators=[servers.models.validation.validate_arguments], verbose_name='own launch arguments')),
                ('config', models.TextField(blank=True, help_text='Added after the blueprint’s; a later line wins.', validators=[servers.models.validation.validate_config], verbose_name='own config')),
                ('desired_state', models.CharField(choices=[('running', 'running'), ('stopped', 'stopped')], default='stopped', editable=False, max_length=16)),
                ('actual_state', models.CharField(choices=[('unknown', 'unknown'), ('absent', 'not set up'), ('stopped', 'stopped'), ('starting', 'starting'), ('running', 'running'), ('crashed', 'crashed')], default='unknown', editable=False, max_length=16)),
                ('actual_state_at', models.DateTimeField(editable=False, null=True)),
                ('last_error', models.TextField(blank=True, editable=False)),
                ('console_run', models.PositiveIntegerField(default=0, editable=False)),
                ('console_offset', models.PositiveBigIntegerField(default=0, editable=False)),
                ('console_seq', models.PositiveBigIntegerField(default=0, editable=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('console_run_started_at', models.FloatField(default=0, editable=False)),
                ('console_tail_bytes', models.PositiveIntegerField(default=0, editable=False)),
                ('crashed_run', models.PositiveIntegerField(default=0, editable=False, help_text='The last of its starts whose crash is recorded; they are counted by its host.')),
                ('map', models.CharField(blank=True, editable=False, max_length=64)),
                ('max_players', models.PositiveSmallIntegerField(editable=False, null=True)),
                ('players', models.PositiveSmallIntegerField(editable=False, help_text='People on it, without bots; unknown unless it runs and answers.', null=True)),
                ('restarts', models.PositiveIntegerField(default=0, editable=False, help_text='After crashes, since somebody started it.')),
                ('running_build_id', models.CharField(blank=True, editable=False, help_text='The build that it runs from, if it runs.', max_length=32)),
                ('state_detail', models.TextField(blank=True, editable=False)),
                ('state_note', models.CharField(blank=True, editable=False, help_text='The state in other words, such as “restarting (2 of 5)”.', max_length=64)),
                ('bind_address', models.GenericIPAddressField(blank=True, help_text='The address that the game binds to (-ip). Empty: its host’s, or all of them.', null=True, protocol='IPv4', verbose_name='bind address')),
                ('config_chain', models.JSONField(blank=True, default=list, editable=False)),
                ('config_chain_at', models.DateTimeField(editable=False, null=True)),
                ('join_password_token', models.TextField(blank=True, editable=False)),
                ('rcon_password_token', models.TextField(blank=True, editable=False)),
                ('own_bytes', models.PositiveBigIntegerField(editable=False, help_text="What it wrote itself takes on its host's disk; unknown until that was measured.", null=True)),
                ('commands_version', models.PositiveBigIntegerField(db_default=0, default=0, editable=False)),
                ('mode', models.CharField(blank=True, db_default='', default='', editable=False, help_text='The game mode; empty too if it answers and does not tell.', max_length=32)),
                ('blueprint', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='servers', to='servers.blueprint')),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='servers', to='servers.host')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='servers', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name'],
                'permissions': [('view_any_server', 'Can see every server'), ('operate_any_server', 'Can start and stop every server'), ('set_any_port', 'Can give a server any port and bind address')],
                'constraints': [models.CheckConstraint(condition=models.Q(('name__regex', '\\A[a-z0-9][a-z0-9-]{0,31}\\Z')), name='server_name_is_valid'), models.UniqueConstraint(fields=('host', 'port'), name='one_server_per_port', violation_error_message='Another server of this host has that port.'), models.CheckConstraint(condition=models.Q(('port__gte', 1024), ('port__lte', 65535)), name='server_port_is_valid')],
            },
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('has_answered', models.BooleanField(default=False, help_text='Whether the job that started it succeeded.')),
                ('as_it_was_at', models.DateTimeField(help_text='When the run was started whose settings this one repeats.', null=True)),
                ('build_id', models.CharField(blank=True, max_length=32)),
                ('port', models.PositiveIntegerField(null=True)),
                ('bind_address', models.CharField(blank=True, max_length=15)),
                ('overlays', models.JSONField(default=list, help_text='Pairs of name and fingerprint, the topmost first.')),
                ('memory_limit_bytes', models.BigIntegerField(null=True)),
                ('tasks_limit', models.PositiveIntegerField(null=True)),
                ('cpu_weight', models.PositiveIntegerField(null=True)),
                ('arguments', models.TextField(blank=True)),
                ('config', models.TextField(blank=True)),
                ('digest_key', models.CharField(blank=True, max_length=8)),
                ('whole_digest', models.CharField(blank=True, help_text='Of all that it was started with but files and build.', max_length=64)),
                ('arguments_digest', models.CharField(blank=True, max_length=64)),
                ('config_digest', models.CharField(blank=True, max_length=64)),
                ('rcon_password_digest', models.CharField(blank=True, max_length=64)),
                ('join_password_digest', models.CharField(blank=True, max_length=64)),
                ('sealed', models.TextField(blank=True, help_text='A token with the arguments and the config as they were.')),
                ('loaded', models.JSONField(help_text='What it said that it has loaded, of what its overlays bring.', null=True)),
                ('loaded_at', models.DateTimeField(help_text='When it was asked for that.', null=True)),
                ('started_by_name', models.CharField(help_text='Who asked for it; empty if Saferoom did, null if it is not known.', max_length=150, null=True)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='servers.server')),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['server', '-id'], name='runs_of_server')],
            },
        ),
        migrations.CreateModel(
            name='PlayerSession',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('steam_id', models.CharField(max_length=32)),
                ('name', models.CharField(blank=True, max_length=64)),
                ('ping', models.PositiveIntegerField(default=0)),
                ('loss', models.PositiveIntegerField(default=0)),
                ('joined_at', models.DateTimeField()),
                ('seen_at', models.DateTimeField()),
                ('left_at', models.DateTimeField(null=True)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='player_sessions', to='servers.server')),
            ],
            options={
                'ordering': ['-joined_at', '-id'],
                'indexes': [models.Index(fields=['server', '-joined_at'], name='sessions_of_server'), models.Index(fields=['left_at'], name='sessions_by_end')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('left_at', None)), fields=('server', 'steam_id'), name='one_open_session_each')],
            },
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('viewer', 'viewer'), ('operator', 'operator'), ('manager', 'manager')], max_length=16)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='servers.server')),
            ],
            options={
                'ordering': ['user__username'],
                'constraints': [models.UniqueConstraint(fields=('server', 'user'), name='one_role_per_server'), models.CheckConstraint(condition=models.Q(('role__in', ['viewer', 'operator', 'manager'])), name='role_is_known')],
            },
        ),
        migrations.CreateModel(
            name='MapChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('map', models.CharField(max_length=64)),
                ('mode', models.CharField(blank=True, max_length=32)),
                ('was_map', models.CharField(blank=True, max_length=64)),
                ('was_mode', models.CharField(blank=True, max_length=32)),
                ('said_map', models.CharField(blank=True, max_length=64)),
                ('said_mode', models.CharField(blank=True, max_length=32)),
                ('state', models.CharField(choices=[('asked', 'asked'), ('playing', 'plays it'), ('other', 'plays something else'), ('unknown', 'says nothing'), ('not_sent', 'not sent'), ('overtaken', 'overtaken by a later change')], default='asked', max_length=16)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('finished_at', models.DateTimeField(null=True)),
                ('command', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='map_change', to='servers.consolecommand')),
                ('server', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='map_changes', to='servers.server')),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('state', 'asked')), fields=['server'], name='map_changes_unfinished')],
            },
        ),
        migrations.CreateModel(
            name='GameAdmin',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('steam_id', models.CharField(max_length=32)),
                ('name', models.CharField(blank=True, max_length=64)),
                ('preset', models.CharField(max_length=16)),
                ('made_by_name', models.CharField(blank=True, max_length=150)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='game_admins', to='servers.server')),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.UniqueConstraint(fields=('server', 'steam_id'), name='one_admin_per_steam_id')],
            },
        ),
        migrations.CreateModel(
            name='Crash',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('exit_signal', models.CharField(blank=True, help_text='Such as SIGSEGV; empty where it is not known: only systemd tells.', max_length=16)),
                ('detail', models.TextField(blank=True)),
                ('last_lines', models.TextField(blank=True)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='crashes', to='servers.server')),
            ],
            options={
                'verbose_name_plural': 'crashes',
                'ordering': ['-at', '-id'],
                'indexes': [models.Index(fields=['server', '-at'], name='crashes_of_server')],
            },
        ),
        migrations.CreateModel(
            name='ConsoleSegment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('first_seq', models.PositiveBigIntegerField()),
                ('last_seq', models.PositiveBigIntegerField()),
                ('text_bytes', models.PositiveIntegerField()),
                ('data', models.BinaryField()),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='console_segments', to='servers.server')),
            ],
            options={
                'ordering': ['first_seq'],
                'indexes': [models.Index(fields=['server', 'last_seq'], name='console_segments_by_last_seq')],
                'constraints': [models.UniqueConstraint(fields=('server', 'first_seq'), name='console_segment_once_per_server')],
            },
        ),
        migrations.CreateModel(
            name='ConsoleRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('first_seq', models.PositiveBigIntegerField()),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
                ('ending', models.CharField(blank=True, choices=[('stopped', 'stopped'), ('crashed', 'crashed'), ('host_restarted', 'host restarted'), ('unknown', 'ended unseen')], max_length=16)),
                ('exit_signal', models.CharField(blank=True, max_length=16)),
                ('build_id', models.CharField(blank=True, max_length=32)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='console_runs', to='servers.server')),
            ],
            options={
                'ordering': ['first_seq', 'id'],
                'indexes': [models.Index(fields=['server', 'first_seq'], name='console_runs_of_server'), models.Index(condition=models.Q(('ended_at', None)), fields=['server'], name='console_runs_going_on')],
            },
        ),
        migrations.CreateModel(
            name='ConsoleLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seq', models.PositiveBigIntegerField()),
                ('line', models.TextField()),
                ('created_at', models.DateTimeField()),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='console_lines', to='servers.server')),
            ],
            options={
                'ordering': ['seq'],
                'constraints': [models.UniqueConstraint(fields=('server', 'seq'), name='console_seq_once_per_server')],
            },
        ),
        migrations.CreateModel(
            name='Ban',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('steam_id', models.CharField(max_length=32)),
                ('name', models.CharField(blank=True, max_length=64)),
                ('reason', models.CharField(blank=True, max_length=200)),
                ('made_by_name', models.CharField(blank=True, max_length=150)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('ends_at', models.DateTimeField(null=True)),
                ('lifted_at', models.DateTimeField(null=True)),
                ('lifted_by_name', models.CharField(blank=True, max_length=150)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('server', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='bans', to='servers.server')),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['owner', 'lifted_at', 'ends_at'], name='bans_of_owner')],
            },
        ),
        migrations.CreateModel(
            name='AdminsNote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(max_length=16)),
                ('remark', models.TextField(blank=True)),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('server', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='admins_note', to='servers.server')),
            ],
        ),
        migrations.CreateModel(
            name='ServerTag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=30)),
                ('server', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='tags', to='servers.server')),
            ],
            options={
                'ordering': ['name'],
                'indexes': [models.Index(fields=['name', 'server'], name='servers_of_tag')],
                'constraints': [models.UniqueConstraint(fields=('server', 'name'), name='one_tag_once_per_server'), models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='tag_has_a_name')],
            },
        ),
        migrations.CreateModel(
            name='Upload',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('adds_to_latest', models.BooleanField(default=True)),
                ('note', models.CharField(blank=True, max_length=200)),
                ('state', models.CharField(choices=[('receiving', 'receiving'), ('waiting', 'being made a version of'), ('done', 'done'), ('failed', 'failed'), ('cancelled', 'cancelled')], default='receiving', editable=False, max_length=16)),
                ('error', models.TextField(blank=True, help_text='One line for people.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('touched_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('finished_at', models.DateTimeField(editable=False, null=True)),
                ('base', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='servers.overlayversion')),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uploads', to=settings.AUTH_USER_MODEL)),
                ('overlay', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uploads', to='servers.overlay')),
                ('version', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='uploads', to='servers.overlayversion')),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['receiving', 'waiting', 'done', 'failed', 'cancelled'])), name='upload_state_is_known')],
            },
        ),
        migrations.CreateModel(
            name='UploadPart',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('token', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('path', models.CharField(max_length=512)),
                ('size', models.PositiveBigIntegerField()),
                ('modified_ms', models.BigIntegerField(default=0)),
                ('is_bundle', models.BooleanField(default=False)),
                ('received_at', models.DateTimeField(editable=False, null=True)),
                ('upload', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='parts', to='servers.upload')),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.UniqueConstraint(fields=('upload', 'path'), name='upload_part_once_per_path')],
            },
        ),
    ]

    operations = [
        CreateModels(tables),
        migrations.RunPython(memberships.make_host_admins, migrations.RunPython.noop),
        migrations.RunPython(host_admins.let_host_admins_change_overlays, migrations.RunPython.noop),
    ]
