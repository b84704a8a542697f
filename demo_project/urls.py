"""The admin, the REST API, the MCP endpoint, and the probes of whoever watches the processes."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("demo_project.desk.rest.urls")),
    path("mcp", include("django_mcp.urls")),
    path("", include("django_mcp.health_urls")),
]
