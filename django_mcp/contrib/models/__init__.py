"""Models as tools and resources: what may leave is listed, who may call is asked of Django's permissions."""

from django_mcp.contrib.models.registration import register_models
from django_mcp.contrib.models.resources import ModelResources
from django_mcp.contrib.models.tools import ModelTools

__all__ = ["ModelResources", "ModelTools", "register_models"]
