from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_mcp", "0005_claim_digest"),
    ]

    operations = [
        migrations.AddField(
            model_name="mcpsession",
            name="roots_changes",
            field=models.PositiveIntegerField(
                default=0, editable=False, help_text="How often its client said that its roots changed."
            ),
        ),
    ]
