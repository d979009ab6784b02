from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('servers', '0019_host_admins_change_overlays'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='loaded',
            field=models.JSONField(help_text='What it said that it has loaded, of what its overlays bring.', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='loaded_at',
            field=models.DateTimeField(help_text='When it was asked for that.', null=True),
        ),
    ]
