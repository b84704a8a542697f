"""The URL of a server, with and without the trailing slash.

`path("mcp", include("django_mcp.urls"))` serves the default server, and
`path("ops/mcp", include("django_mcp.urls"), {"server": "ops"})` the one called `ops`.
"""

from django.urls import re_path

from django_mcp.views import endpoint

app_name = "django_mcp"

urlpatterns = [re_path(r"^[/]?$", endpoint, name="endpoint")]
