"""Our server: the consumer in front of Django, as a project's `asgi.py` has it."""

import os

from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
django_application = get_asgi_application()

from django_mcp.routing import mcp_application  # noqa: E402 - Django is set up first

application = mcp_application(django_application)
