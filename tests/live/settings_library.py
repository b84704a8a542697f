"""A server of the library, for callers with a token of REST framework."""

import os
from pathlib import Path

from tests.live import settings as live
from tests.live.settings import *  # noqa: F403

INSTALLED_APPS = [
    *live.INSTALLED_APPS[: live.INSTALLED_APPS.index("tests.everything")],
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "tests.contrib.rest_framework.library",
    "tests.live.lending",
]
ROOT_URLCONF = "tests.contrib.rest_framework.library.urls"
MEDIA_ROOT = Path(os.environ["LIVE_MEDIA"]) if "LIVE_MEDIA" in os.environ else None
DJANGO_MCP = {
    "ACCESS": "required",
    "AUTHENTICATION": ["tests.live.lending.authentication.BearerTokenAuthentication"],
    "SERVER_NAME": "library",
    "DRAIN_SECONDS": 1,
}
