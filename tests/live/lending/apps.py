from django.apps import AppConfig


class LendingConfig(AppConfig):
    name = "tests.live.lending"
    label = "lending"
