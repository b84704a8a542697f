"""A project with nothing but the server, as open as the SDK's is by default."""

SECRET_KEY = "the secret key of a server that is measured on loopback and stopped"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "benchmarks.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_mcp", "benchmarks"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DJANGO_MCP = {"ACCESS": "public", "SERVER_NAME": "benchmark", "SERVER_VERSION": "1"}
