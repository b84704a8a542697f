"""Registering classes of models: their tools and resources are made when the server is compiled."""

from __future__ import annotations

from typing import Any

from django_mcp.contrib.models.resources import ModelResources
from django_mcp.contrib.models.tools import ModelTools
from django_mcp.exceptions import RegistryError
from django_mcp.registry.definition import Bundle, Definition
from django_mcp.registry.server import Server, default_server


def register_models(*classes: type[ModelTools] | type[ModelResources], server: Server = default_server) -> None:
    """Serve what the classes declare.

    Raises:
        RegistryError: one is no subclass of `ModelTools` or `ModelResources`. What it declares wrongly is reported
            when the server is compiled, with its file and line.
    """
    for one in classes:
        if not issubclass(one, ModelTools | ModelResources):
            raise RegistryError(
                f"{one!r} declares no tools of a model;", remedy="subclass ModelTools or ModelResources."
            )
        server.add(_bundle(one))


def _bundle(declared: type[ModelTools] | type[ModelResources]) -> Bundle[..., Any]:
    def members() -> list[Definition[..., Any]]:
        return [*declared().definitions()]

    return Bundle(function=members, name=declared.__name__, members=members, place=declared.place())
