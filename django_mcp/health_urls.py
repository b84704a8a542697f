"""The URLs of the probes: `path("", include("django_mcp.health_urls"))` serves `/healthz` and `/readyz`."""

from django.urls import path

from django_mcp.health import healthz, readyz

app_name = "django_mcp_health"

urlpatterns = [path("healthz", healthz, name="healthz"), path("readyz", readyz, name="readyz")]
