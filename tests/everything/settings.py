"""Settings of the everything server: public, on loopback, on the database and the channel layer of the environment.

With `REST_FRAMEWORK` classes of Django REST framework stand at the endpoint, and let everybody in.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import dj_database_url
import pymysql

pymysql.install_as_MySQLdb()

SECRET_KEY = os.environ.get("SECRET_KEY", "everything-server-secret-key-that-is-for-tests-on-loopback-only")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
USE_TZ = True
ROOT_URLCONF = "tests.everything.urls"
INSTALLED_APPS = [
    "daphne",
    "channels",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_mcp",
    "tests.everything",
]
MIDDLEWARE: list[str] = []
DEFAULT_DATABASE = Path(tempfile.gettempdir()) / "django-mcp-everything.sqlite3"
DATABASES: dict[str, Any] = {"default": dj_database_url.config(default=f"sqlite:///{DEFAULT_DATABASE}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        transaction_mode="IMMEDIATE", timeout=20, init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    )
CHANNEL_LAYERS: dict[str, Any] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
if redis_url := os.environ.get("REDIS_URL"):
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [redis_url]},
    }
DJANGO_MCP: dict[str, Any] = {"ACCESS": "public", "SERVER_NAME": "everything", "SERVER_VERSION": "1.0"}
if os.environ.get("REST_FRAMEWORK"):
    INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken"]
    DJANGO_MCP["AUTHENTICATION"] = [
        "django_mcp.authentication.AccessTokenAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ]
    DJANGO_MCP["PERMISSIONS"] = ["rest_framework.permissions.AllowAny"]
    DJANGO_MCP["THROTTLES"] = ["tests.everything.guards.Generous"]
    DJANGO_MCP["CALL_RATE"] = "1000000/day"
