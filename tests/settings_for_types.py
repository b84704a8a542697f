"""What the type checker is told is installed: the demo, and the apps that only live tests install."""

from demo_project.settings import *  # noqa: F403
from demo_project.settings import INSTALLED_APPS

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "tests.live.ledger",
    "tests.chaos.app",
    "tests.contrib.rest_framework.library",
    "tests.contrib.models.shop",
]
