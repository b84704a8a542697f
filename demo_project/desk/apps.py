"""The app's configuration."""

from django.apps import AppConfig


class DeskConfig(AppConfig):
    """Register the travel desk."""

    name = "demo_project.desk"
    label = "desk"
    verbose_name = "Travel desk"
