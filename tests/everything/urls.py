"""The server, and the probes."""

from django.urls import include, path

urlpatterns = [path("mcp", include("django_mcp.urls")), path("", include("django_mcp.health_urls"))]
