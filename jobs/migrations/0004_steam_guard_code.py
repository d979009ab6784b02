import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0003_lists_and_quotas'),
    ]

    operations = [
        migrations.CreateModel(
            name='SteamGuardCode',
            fields=[
                ('job', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='jobs.job')),
                ('code', models.CharField(max_length=8)),
                ('created_at', models.DateTimeField()),
            ],
        ),
    ]
