"""The ASGI applications under test: with the consumer in front, and Django's own alone."""

import os

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django_mcp.routing import mcp_application  # noqa: E402 - Django is set up first
from tests.live.breaking import Breaking  # noqa: E402

_application = mcp_application(django_application)
application = Breaking(_application) if "LIVE_BREAKS" in os.environ else _application
