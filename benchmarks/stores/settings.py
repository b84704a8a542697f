"""Settings of the servers whose stores are measured: those of the live tests, with what the environment says."""

import os

from tests.live.settings import *  # noqa: F403
from tests.live.settings import INSTALLED_APPS as LIVE_APPS

INSTALLED_APPS = [*LIVE_APPS, "benchmarks.stores"]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": os.environ.get("BENCH_FILES", "")},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if redis_url := os.environ.get("BENCH_REDIS"):
    CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": redis_url,
            "OPTIONS": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
        }
    }
