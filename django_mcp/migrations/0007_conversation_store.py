from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_mcp", "0006_session_roots_changes"),
    ]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="store",
            field=models.CharField(
                blank=True,
                default="",
                help_text="The alias of the store that keeps its state; empty for these tables.",
                max_length=100,
                verbose_name="store",
            ),
        ),
        migrations.AddField(
            model_name="conversation",
            name="has_lost",
            field=models.BooleanField(
                default=False,
                help_text="Its store lost what it had acknowledged, and it ended for that.",
                verbose_name="lost",
            ),
        ),
    ]
