"""The application that holds the tools of the conformance suite."""

from django.apps import AppConfig


class EverythingConfig(AppConfig):
    name = "tests.everything"
    label = "everything"
