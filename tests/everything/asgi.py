"""The ASGI application of the everything server."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.everything.settings")
django_application = get_asgi_application()

from django_mcp.routing import mcp_application  # noqa: E402 - Django is set up first

application = mcp_application(django_application)
