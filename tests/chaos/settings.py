"""Settings of the servers under chaos: those of the live tests, and the application whose tools they serve."""

import os

from tests.live.settings import *  # noqa: F403
from tests.live.settings import INSTALLED_APPS as LIVE_APPS

INSTALLED_APPS = [*LIVE_APPS, "tests.chaos.app"]

if redis_url := os.environ.get("REDIS_URL"):
    CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": redis_url,
            "OPTIONS": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
        }
    }
