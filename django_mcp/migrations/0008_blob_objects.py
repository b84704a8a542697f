import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_mcp", "0007_conversation_store"),
    ]

    operations = [
        migrations.CreateModel(
            name="BlobObject",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("storage", models.CharField(help_text="The alias in STORAGES.", max_length=100)),
                ("garbage_at", models.DateTimeField(null=True)),
                ("is_given_up", models.BooleanField(default=False)),
                (
                    "family",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="blob_objects",
                        to="django_mcp.conversation",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.AddField(
            model_name="blob",
            name="kept_in",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="blobs",
                to="django_mcp.blobobject",
            ),
        ),
        migrations.AddIndex(
            model_name="blobobject",
            index=models.Index(fields=["garbage_at"], name="django_mcp_object_garbage"),
        ),
        migrations.AddIndex(
            model_name="blobobject",
            index=models.Index(fields=["family", "garbage_at"], name="django_mcp_object_family"),
        ),
    ]
