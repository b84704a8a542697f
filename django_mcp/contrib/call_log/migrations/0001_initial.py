from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="LoggedCall",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created", models.DateTimeField(verbose_name="ended")),
                ("server", models.CharField(max_length=100, verbose_name="server")),
                ("tool", models.CharField(blank=True, max_length=128, verbose_name="tool")),
                ("principal", models.CharField(blank=True, max_length=190, verbose_name="principal")),
                ("tenant", models.CharField(blank=True, max_length=100, verbose_name="tenant")),
                (
                    "era",
                    models.CharField(
                        choices=[("handshake", "handshake"), ("modern", "modern")], max_length=10, verbose_name="era"
                    ),
                ),
                ("protocol_version", models.CharField(blank=True, max_length=32, verbose_name="protocol version")),
                ("client_name", models.CharField(blank=True, max_length=100, verbose_name="client")),
                ("client_version", models.CharField(blank=True, max_length=100, verbose_name="client version")),
                (
                    "arguments_digest",
                    models.CharField(
                        blank=True,
                        help_text="The same for the same arguments of a tool; it tells nothing else about them.",
                        max_length=16,
                        verbose_name="digest of the arguments",
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("ok", "ok"),
                            ("input_required", "input required"),
                            ("failed", "failed"),
                            ("refused", "refused"),
                            ("limited", "limited"),
                            ("cancelled", "cancelled"),
                            ("unavailable", "unavailable"),
                            ("lost", "lost"),
                            ("error", "error"),
                        ],
                        max_length=20,
                        verbose_name="outcome",
                    ),
                ),
                ("milliseconds", models.PositiveBigIntegerField(verbose_name="milliseconds")),
                ("session", models.CharField(blank=True, max_length=8, verbose_name="session")),
                ("conversation", models.CharField(blank=True, max_length=8, verbose_name="conversation")),
                ("is_repeat", models.BooleanField(default=False, verbose_name="repeat")),
                ("is_takeover", models.BooleanField(default=False, verbose_name="taken over")),
            ],
            options={
                "verbose_name": "logged call",
                "verbose_name_plural": "logged calls",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["created"], name="mcp_call_log_created"),
                    models.Index(fields=["server", "created"], name="mcp_call_log_server"),
                    models.Index(fields=["principal", "created"], name="mcp_call_log_principal"),
                ],
            },
        ),
    ]
