from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_mcp", "0004_streams_calls_questions"),
    ]

    operations = [
        migrations.AddField(
            model_name="claim",
            name="digest",
            field=models.CharField(
                blank=True, db_default="", default="", help_text="Of the request that the key is for.", max_length=64
            ),
        ),
    ]
