"""Settings of the demo: everything embedded by default, real services by environment variables.

`DATABASE_URL`, `READONLY_DATABASE_URL`, `REDIS_URL`, `SECRET_KEY`, `DEBUG`, `ALLOWED_HOSTS` (comma-separated) and
`DEMO_VAR`, the folder for what is made at the first run (database, secret key, credentials), are read here.
"""

import os
from pathlib import Path
from typing import Any

from django.core.management.utils import get_random_secret_key

from demo_project.databases import databases
from demo_project.private_file import private_folder, read_or_create

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = private_folder(Path(os.environ.get("DEMO_VAR") or BASE_DIR / "var").absolute())

SECRET_KEY = os.environ.get("SECRET_KEY") or read_or_create(VAR_DIR / "secret-key", get_random_secret_key)
DEBUG = os.environ.get("DEBUG", "1").lower() in {"1", "true", "yes", "on"}
ALLOWED_HOSTS = [host for host in os.environ.get("ALLOWED_HOSTS", "").split(",") if host] or [
    "localhost",
    "127.0.0.1",
    "[::1]",
]

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "django_mcp",
    "django_mcp.contrib.call_log",
    "demo_project.desk",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
            ],
        },
    },
]
ROOT_URLCONF = "demo_project.urls"
ASGI_APPLICATION = "demo_project.asgi.application"
WSGI_APPLICATION = "demo_project.wsgi.application"

# SQL that a client wrote runs on this alias, and no longer than this.
DESK_QUERY_DATABASE = "readonly"
DESK_QUERY_SECONDS = 3.0

DATABASES = databases(
    os.environ.get("DATABASE_URL") or f"sqlite:///{VAR_DIR / 'db.sqlite3'}",
    readonly_url=os.environ.get("READONLY_DATABASE_URL", ""),
    query_seconds=DESK_QUERY_SECONDS,
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL", "")
CHANNEL_LAYERS: dict[str, dict[str, Any]]
CACHES: dict[str, dict[str, Any]]
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # The layer waits at Redis for 5 seconds at a time; by default the client gives up after as many.
            "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": 15}]},
        },
    }
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": REDIS_URL}}
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"

DJANGO_MCP = {
    "SERVER_NAME": "travel-desk",
    "SERVER_TITLE": "Travel desk",
    "SERVER_VERSION": "1.0",
    "INSTRUCTIONS": (
        "Find airports with search_airports, plan with plan_itinerary, and book with book, which asks the user first. "
        "To plan leg by leg, use draft_leg, pass the handle that it gives to the next call, and end with keep_draft. "
        "Airports are named by their IATA code, such as ZRH."
    ),
}
