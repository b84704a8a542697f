import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_mcp", "0003_past_calls"),
    ]

    operations = [
        migrations.CreateModel(
            name="Outlet",
            fields=[
                (
                    "session",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="django_mcp.mcpsession",
                    ),
                ),
                ("standalone", models.CharField(blank=True, max_length=17, null=True)),
                ("cursor", models.BigIntegerField(blank=True, null=True)),
                ("open_bytes", models.BigIntegerField(default=0)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[
                ("name", models.CharField(max_length=17, primary_key=True, serialize=False)),
                ("kind", models.CharField(choices=[("post", "Post"), ("standalone", "Standalone")], max_length=10)),
                ("first", models.BigIntegerField(default=1)),
                ("last", models.BigIntegerField(default=0)),
                ("size", models.BigIntegerField(default=0)),
                ("reader", models.BigIntegerField(default=0)),
                ("is_open", models.BooleanField(default=True)),
                ("kept_seconds", models.FloatField()),
                ("opened_at", models.DateTimeField()),
                ("written_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "session",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="django_mcp.mcpsession",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("sequence", models.BigIntegerField()),
                ("body", models.BinaryField()),
                ("size", models.BigIntegerField()),
                ("created_at", models.DateTimeField()),
                (
                    "stream",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="django_mcp.stream",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Call",
            fields=[
                ("id", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("server", models.CharField(max_length=100)),
                ("scope", models.CharField(max_length=64)),
                ("stream", models.CharField(blank=True, max_length=17)),
                ("request_id", models.TextField(help_text="ASCII JSON text.")),
                ("request_digest", models.CharField(max_length=64)),
                ("is_first", models.BooleanField(help_text="Is it the one that its request id names while it runs?")),
                ("digest", models.CharField(blank=True, max_length=64)),
                (
                    "payload",
                    models.TextField(blank=True, help_text="Sealed by the caller; empty once the call has ended."),
                ),
                ("is_repeatable", models.BooleanField(default=False)),
                ("owner", models.CharField(max_length=100)),
                ("fence", models.BigIntegerField(default=1)),
                ("lease_until", models.DateTimeField()),
                ("body_began", models.BooleanField(default=False)),
                ("cancel_requested", models.BooleanField(default=False)),
                ("progress", models.FloatField(blank=True, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("input_required", "Input Required"),
                            ("interrupted", "Interrupted"),
                        ],
                        default="running",
                        max_length=14,
                    ),
                ),
                ("begun_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "session",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="django_mcp.mcpsession",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["session", "request_digest"], name="django_mcp_call_request"),
                    models.Index(fields=["server", "scope", "state"], name="django_mcp_call_scope"),
                    models.Index(fields=["state", "lease_until"], name="django_mcp_call_due"),
                    models.Index(fields=["ended_at"], name="django_mcp_call_ended"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Question",
            fields=[
                ("id", models.CharField(max_length=18, primary_key=True, serialize=False)),
                ("call", models.CharField(blank=True, max_length=32)),
                ("key", models.CharField(blank=True, max_length=200)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("answered", "Answered"),
                            ("expired", "Expired"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="waiting",
                        max_length=9,
                    ),
                ),
                ("answer", models.TextField(blank=True, help_text="ASCII JSON text.")),
                ("asked_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "session",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="django_mcp.mcpsession",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["session", "state"], name="django_mcp_question_session"),
                    models.Index(fields=["call"], name="django_mcp_question_call"),
                    models.Index(fields=["expires_at"], name="django_mcp_question_expires"),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="stream",
            index=models.Index(fields=["session"], name="django_mcp_stream_session"),
        ),
        migrations.AddIndex(
            model_name="stream",
            index=models.Index(fields=["opened_at"], name="django_mcp_stream_opened"),
        ),
        migrations.AddIndex(
            model_name="stream",
            index=models.Index(fields=["expires_at"], name="django_mcp_stream_expires"),
        ),
        migrations.AddConstraint(
            model_name="event",
            constraint=models.UniqueConstraint(fields=("stream", "sequence"), name="django_mcp_event_sequence_unique"),
        ),
    ]
