"""The REST routes, and an endpoint that serves the library."""

from django.urls import include, path

from tests.contrib.rest_framework.library import urls

urlpatterns = [*urls.urlpatterns[:-1], path("mcp", include("django_mcp.urls"), {"server": "library"})]
