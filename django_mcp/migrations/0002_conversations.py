import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_mcp", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Conversation",
            fields=[
                ("id", models.CharField(editable=False, max_length=32, primary_key=True, serialize=False)),
                ("forked_from", models.CharField(blank=True, max_length=32, verbose_name="forked from")),
                (
                    "kind",
                    models.CharField(
                        choices=[("conversation", "conversation"), ("user", "state of a user")],
                        default="conversation",
                        max_length=12,
                        verbose_name="kind",
                    ),
                ),
                ("server", models.CharField(max_length=100, verbose_name="server")),
                ("tenant", models.CharField(blank=True, max_length=100, verbose_name="tenant")),
                ("principal", models.CharField(max_length=190, verbose_name="principal")),
                ("address", models.CharField(blank=True, max_length=50, verbose_name="address")),
                ("owner_digest", models.CharField(max_length=64)),
                ("name_digest", models.CharField(blank=True, max_length=64, null=True)),
                ("handle_digest", models.CharField(blank=True, max_length=64, null=True)),
                ("generation", models.BigIntegerField(default=0, verbose_name="generation")),
                ("has_blobs", models.BooleanField(default=False)),
                (
                    "garbage_at",
                    models.DateTimeField(blank=True, help_text="When collection is worth another look.", null=True),
                ),
                ("revoked_up_to", models.BigIntegerField(default=-1, verbose_name="tokens revoked up to generation")),
                ("revoked_tokens", models.TextField(default="[]")),
                (
                    "state",
                    models.CharField(
                        choices=[("active", "active"), ("expired", "expired"), ("revoked", "revoked")],
                        default="active",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="created")),
                ("last_used_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="last used")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "root",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        help_text="The first of a family of forks, which share blobs; empty for the first itself.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="forks",
                        to="django_mcp.conversation",
                        verbose_name="root",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="mcp_conversations",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "conversation",
                "verbose_name_plural": "conversations",
                "ordering": ["-last_used_at", "id"],
            },
        ),
        migrations.CreateModel(
            name="Blob",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("digest", models.CharField(max_length=64)),
                ("part", models.IntegerField(default=0)),
                ("body", models.BinaryField()),
                ("size", models.BigIntegerField()),
                ("touched_at", models.DateTimeField()),
                (
                    "family",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="blobs",
                        to="django_mcp.conversation",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Snapshot",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("number", models.BigIntegerField(verbose_name="generation")),
                ("address", models.CharField(blank=True, max_length=64, verbose_name="content address")),
                ("manifest", models.BinaryField()),
                (
                    "size",
                    models.BigIntegerField(
                        help_text="What this generation added: its manifest and its blobs.", verbose_name="bytes"
                    ),
                ),
                ("copied_from", models.BigIntegerField(blank=True, null=True, verbose_name="copied from generation")),
                ("call", models.TextField(blank=True, verbose_name="call")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="created")),
                (
                    "conversation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="snapshots",
                        to="django_mcp.conversation",
                        verbose_name="conversation",
                    ),
                ),
            ],
            options={
                "verbose_name": "snapshot",
                "verbose_name_plural": "snapshots",
                "default_permissions": ("view",),
            },
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["root"], name="django_mcp_conv_root"),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["user"], name="django_mcp_conv_user"),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["owner_digest", "state", "last_used_at"], name="django_mcp_conv_owner"),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["last_used_at", "id"], name="django_mcp_conv_last_used"),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["state", "last_used_at"], name="django_mcp_conv_idle"),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["state", "created_at"], name="django_mcp_conv_age"),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["ended_at"], name="django_mcp_conv_ended"),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(fields=["garbage_at"], name="django_mcp_conv_garbage"),
        ),
        migrations.AddConstraint(
            model_name="conversation",
            constraint=models.UniqueConstraint(fields=("name_digest",), name="django_mcp_conv_name_unique"),
        ),
        migrations.AddConstraint(
            model_name="conversation",
            constraint=models.UniqueConstraint(fields=("handle_digest",), name="django_mcp_conv_handle_unique"),
        ),
        migrations.AddConstraint(
            model_name="blob",
            constraint=models.UniqueConstraint(fields=("family", "digest", "part"), name="django_mcp_blob_unique"),
        ),
        migrations.AddConstraint(
            model_name="snapshot",
            constraint=models.UniqueConstraint(
                fields=("conversation", "number"), name="django_mcp_snapshot_number_unique"
            ),
        ),
    ]
