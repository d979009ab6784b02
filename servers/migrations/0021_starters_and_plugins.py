from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('servers', '0020_run_loaded'),
    ]

    operations = [
        migrations.AddField(
            model_name='overlayversion',
            name='plugins',
            field=models.JSONField(help_text='What its plugins need and provide, as hostops.specs.PluginNeeds; null: not all were read.', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='started_by_name',
            field=models.CharField(help_text='Who asked for it; empty if Saferoom did, null if it is not known.', max_length=150, null=True),
        ),
    ]
