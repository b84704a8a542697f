"""Settings of the servers that the live tests start: everything, and the ledger, as the environment says.

`LIVE_MCP` is a JSON object of changes to `DJANGO_MCP`, `LIVE_CONN_MAX_AGE` the seconds that a connection is kept.
`LIVE_CACHES` and `LIVE_STORAGES` are JSON objects of more entries of `CACHES` and `STORAGES`.
`LIVE_LAYER` is the channel layer: `redis` (at `REDIS_URL`), `memory`, `none`, or `deaf`, which drops every message.
"""

import json
import os
import socket
from typing import Any

from django.conf import global_settings

from tests.everything import settings as everything

SECRET_KEY = everything.SECRET_KEY
DEBUG = False
# The last is what wsgiref calls itself where the client names no host.
ALLOWED_HOSTS = [*everything.ALLOWED_HOSTS, socket.getfqdn("127.0.0.1")]
USE_TZ = True
ROOT_URLCONF = everything.ROOT_URLCONF
INSTALLED_APPS = [*everything.INSTALLED_APPS, "tests.live.ledger"]
MIDDLEWARE: list[str] = []
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = everything.DATABASES
DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("LIVE_CONN_MAX_AGE", "0"))
CACHES: dict[str, Any] = {**global_settings.CACHES, **json.loads(os.environ.get("LIVE_CACHES", "{}"))}
STORAGES: dict[str, Any] = {**global_settings.STORAGES, **json.loads(os.environ.get("LIVE_STORAGES", "{}"))}
CHANNEL_LAYERS: dict[str, Any] = {
    "": everything.CHANNEL_LAYERS,
    "redis": everything.CHANNEL_LAYERS,
    "memory": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    "none": {},
    "deaf": {"default": {"BACKEND": "tests.live.layer.DeafChannelLayer"}},
}[os.environ.get("LIVE_LAYER", "")]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
DJANGO_MCP: dict[str, Any] = {
    **everything.DJANGO_MCP,
    "DRAIN_SECONDS": 1,
    "TENANT": "tests.live.tenancy.tenant_of",
    **json.loads(os.environ.get("LIVE_MCP", "{}")),
}
