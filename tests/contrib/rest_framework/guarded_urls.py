"""The plain view on a server that a test defines."""

from django.urls import path

from django_mcp.views import endpoint

urlpatterns = [path("mcp", endpoint, {"server": "guarded"})]
