"""The application of the chaos harness."""

from django.apps import AppConfig


class ChaosConfig(AppConfig):
    name = "tests.chaos.app"
    label = "chaos"
    default_auto_field = "django.db.models.BigAutoField"
