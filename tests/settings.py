"""The project that the tests run in: every app of the repository, in a temporary folder."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pymysql

pymysql.install_as_MySQLdb()

SECRET_KEY = "a secret of the tests, long enough for every check of every kind there is"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.urls"
INSTALLED_APPS = [
    "daphne",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "django_mcp",
    "django_mcp.contrib.call_log",
    "demo_project.desk",
    "tests.contrib.rest_framework.library",
    "tests.contrib.models.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# A file, as a project has it: connections to a shared memory do not wait for each other, they fail.
FOLDER = Path(tempfile.mkdtemp(prefix="django-mcp-tests-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "default.sqlite3",
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
        },
        "TEST": {"NAME": FOLDER / "test.sqlite3"},
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "/static/"
MEDIA_ROOT = FOLDER / "media"
DESK_QUERY_DATABASE = "default"
DESK_QUERY_SECONDS = 3.0
DJANGO_MCP: dict[str, Any] = {}
