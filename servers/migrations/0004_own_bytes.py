"""The size of what a server itself wrote on its host."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds a column."""

    dependencies = [("servers", "0003_secrets_chain_addresses")]

    operations = [
        migrations.AddField(
            model_name="server",
            name="own_bytes",
            field=models.PositiveBigIntegerField(
                editable=False,
                help_text="What it wrote itself takes on its host's disk; unknown until that was measured.",
                null=True,
            ),
        ),
    ]
