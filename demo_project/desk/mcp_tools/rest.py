"""The viewsets of the REST API as tools: `airport_list`, `itinerary_create` and the others."""

from demo_project.desk.rest.urls import router
from django_mcp.contrib.rest_framework import register_router

ACTIONS = ("list", "retrieve", "create", "partial_update", "destroy")

# The views name one class; here they take whom the endpoint knows, by whatever class of its setting.
register_router(router, include=ACTIONS, accept_endpoint_authentication=True)
