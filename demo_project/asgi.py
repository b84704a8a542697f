"""The ASGI application: MCP at its URL, the admin's static files, and Django for the rest."""

import os

from django.core.asgi import get_asgi_application

from demo_project.static_files import StaticFilesASGI

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
django_application = get_asgi_application()

# Imported when the apps are loaded.
from django_mcp.routing import mcp_application  # noqa: E402

application = mcp_application(StaticFilesASGI(django_application))
