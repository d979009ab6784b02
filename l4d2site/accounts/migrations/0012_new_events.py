"""Events about a second factor that is asked for or renamed, recovery codes that were shown, and restored backups."""


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0011_pending_sign_in'),
    ]

    operations = [
        migrations.AlterField(
            model_name='accountevent',
            name='kind',
            field=models.CharField(choices=[('sign_in', 'Signed in'), ('sign_in_failed', 'Sign-in failed'), ('second_factor_asked', 'Second factor asked for'), ('second_factor_failed', 'Second factor failed'), ('throttled', 'Turned away: too many attempts'), ('sign_out', 'Signed out'), ('session_revoked', 'Session ended'), ('password_changed', 'Password changed'), ('email_changed', 'Mail address changed'), ('username_changed', 'Username changed'), ('reset_link_made', 'Reset link made'), ('second_factor_added', 'Second factor added'), ('second_factor_removed', 'Second factor removed'), ('second_factor_renamed', 'Second factor renamed'), ('recovery_codes_made', 'Recovery codes made'), ('recovery_codes_shown', 'Recovery codes shown'), ('account_made', 'Account made'), ('account_removed', 'Account removed'), ('role_changed', 'Role changed'), ('invitation_made', 'Invitation made'), ('invitation_revoked', 'Invitation revoked'), ('invitation_accepted', 'Invitation accepted'), ('quotas_changed', 'Limits changed'), ('backup_restored', 'Backup restored'), ('server_made', 'Server made'), ('server_changed', 'Server changed'), ('server_removed', 'Server removed'), ('player_banned', 'Banned'), ('ban_lifted', 'Ban lifted'), ('game_admin_changed', 'Admin in the game'), ('blueprint_made', 'Blueprint made'), ('blueprint_changed', 'Blueprint changed'), ('blueprint_removed', 'Blueprint removed'), ('overlay_made', 'Overlay made'), ('overlay_changed', 'Overlay changed'), ('overlay_removed', 'Overlay removed')], max_length=32),
        ),
    ]
