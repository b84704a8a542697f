from django.apps import AppConfig


class LibraryConfig(AppConfig):
    name = "tests.contrib.rest_framework.library"
    label = "library"
    default_auto_field = "django.db.models.BigAutoField"
