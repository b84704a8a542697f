"""Compiling a server: every definition is read once, checked, and given its place in the tables.

The first mistake of each definition is collected, so that `manage.py check` reports all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.apps import apps
from django.core.signals import setting_changed
from django.utils.functional import Promise

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConfigurationError, RegistryError
from django_mcp.registry.definition import (
    Bundle,
    CompletionDefinition,
    Definition,
    PromptDefinition,
    ResourceDefinition,
    ToolDefinition,
)
from django_mcp.registry.server import DEFAULT, Server, servers
from django_mcp.server.completion import CompiledCompletion
from django_mcp.server.meta import is_meta_key
from django_mcp.server.permission import is_permission
from django_mcp.server.prompt import CompiledPrompt
from django_mcp.server.resource import CompiledResource
from django_mcp.server.tool import CompiledTool
from django_mcp.sessions.stores import state_store
from django_mcp.setting import SETTING

_META_LABEL: Final = "[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"


class CompiledServer:
    """The tables of one server: tools, prompts and resources by name, completions by target.

    Args:
        source: what the decorators recorded.
        errors: takes the mistakes; without it the first is raised.
    """

    def __init__(self, source: Server, errors: list[RegistryError] | None = None) -> None:
        self.source = source
        self.is_default = source.name == DEFAULT
        self.name = mcp_settings.SERVER_NAME if self.is_default else source.name
        self.version = source.version or mcp_settings.SERVER_VERSION
        self.title = source.title or (mcp_settings.SERVER_TITLE if self.is_default else "")
        self.instructions = source.instructions or (mcp_settings.INSTRUCTIONS if self.is_default else "")
        self.key = key_of(source.name)
        self.store_alias = store_alias_of(source)
        self.tools: dict[str, CompiledTool] = {}
        self.prompts: dict[str, CompiledPrompt] = {}
        self.resources: dict[str, CompiledResource] = {}
        self.templates: list[CompiledResource] = []
        self.completions: dict[tuple[str, str], CompiledCompletion] = {}
        self.revision = source.revision
        self.definitions: list[Definition[..., Any]] = []
        for recorded in source.definitions:
            with _collecting(errors):
                self.definitions += recorded.members() if isinstance(recorded, Bundle) else [recorded]
        # Completions come last: which prompt one means depends on the names of all.
        for definition in sorted(self.definitions, key=lambda one: isinstance(one, CompletionDefinition)):
            with _collecting(errors):
                self._add(definition)

    @property
    def varies(self) -> bool:
        """Whether what is listed depends on who asks, or in which language."""
        return any(
            definition.permission is not None
            or getattr(definition, "listed", None) is not None
            or isinstance(definition.title, Promise)
            or isinstance(definition.description, Promise)
            for definition in self.definitions
        )

    def _add(self, definition: Definition[..., Any]) -> None:
        for key in definition.meta or ():
            if not is_meta_key(key):
                raise definition.error(
                    f"has the key {key!r} in its meta", "name keys like `name` or `com.example/name`"
                )
        if definition.permission is not None and not is_permission(definition.permission):
            raise definition.error(
                f"has the permission {definition.permission!r}",
                "give 'app.codename', a callable of the request, or a permission class of Django REST framework",
            )
        match definition:
            case ToolDefinition():
                name = self._full_name(definition)
                self._claim(definition, self.tools.get(name), name)
                self.tools[name] = CompiledTool(definition.served(), name)
                self._check_atomic(definition)
            case PromptDefinition():
                name = self._full_name(definition)
                self._claim(definition, self.prompts.get(name), name)
                self.prompts[name] = CompiledPrompt(definition, name)
            case ResourceDefinition():
                compiled = CompiledResource(definition)
                known = {template.uri: template for template in self.templates} | self.resources
                self._claim(definition, known.get(definition.uri), definition.uri)
                if compiled.is_template:
                    self.templates.append(compiled)
                else:
                    self.resources[definition.uri] = compiled
            case CompletionDefinition():
                target = self._target(definition)
                self._claim(definition, self.completions.get(target), " ".join(target))
                self._check_target(definition, target[0])
                self.completions[target] = CompiledCompletion(definition)

    def _check_atomic(self, definition: ToolDefinition[..., Any]) -> None:
        if not definition.atomic:
            return
        try:
            supported = state_store(self.store_alias).supports_transactions
        except ConfigurationError:
            return  # what is wrong with the store is reported as such
        if not supported:
            raise definition.error(
                f"is atomic, and the store {self.store_alias!r} takes no part in transactions",
                "give its server a database store",
            )

    def _target(self, definition: CompletionDefinition[..., Any]) -> tuple[str, str]:
        """Return what is completed. A prompt goes by the name in its own module, or by the one with all prefixes."""
        if definition.prompt is None:
            return definition.resource or "", definition.argument
        own = self._prefixed(definition, definition.prompt)
        return own if own in self.prompts else definition.prompt, definition.argument

    def _check_target(self, definition: CompletionDefinition[..., Any], target: str) -> None:
        if definition.prompt is not None:
            prompt = self.prompts.get(target)
            names = prompt.arguments if prompt is not None else None
        else:
            found = next((template for template in self.templates if template.uri == target), None)
            names = found.variables if found is not None else None
        if names is None:
            raise definition.error(
                f"completes {definition.prompt or definition.resource!r}, which is not registered",
                "name a registered prompt or the URI of a registered template",
            )
        if definition.argument not in names:
            raise definition.error(
                f"completes the argument {definition.argument!r}; there are {', '.join(names) or 'none'}",
                "name one of them",
            )

    def _claim(self, definition: Definition[..., Any], earlier: Any, name: str) -> None:
        if earlier is not None:
            raise definition.error(
                f"takes {name!r}, which {earlier.definition.where} has already", "rename one, or give its app a prefix"
            )

    def _full_name(self, definition: Definition[..., Any]) -> str:
        return self._prefixed(definition, definition.name)

    def _prefixed(self, definition: Definition[..., Any], name: str) -> str:
        config = apps.get_containing_app_config(getattr(definition.function, "__module__", ""))
        return f"{self.source.prefix}{getattr(config, 'mcp_prefix', '')}{name}"


@contextmanager
def _collecting(errors: list[RegistryError] | None) -> Iterator[None]:
    try:
        yield
    except RegistryError as error:
        if errors is None:
            raise
        errors.append(error)


_compiled: WeakKeyDictionary[Server, CompiledServer] = WeakKeyDictionary()


def store_alias_of(source: Server) -> str:
    """Return the alias of the store that keeps a server's records."""
    return mcp_settings.STORE if source.store == DEFAULT else source.store


def compiled(source: Server) -> CompiledServer:
    """Return the compiled form of a server; it is made again when definitions were added or removed.

    Raises:
        RegistryError: a definition cannot be served.
    """
    known = _compiled.get(source)
    if known is None or known.revision != source.revision:
        known = _compiled[source] = CompiledServer(source)
    return known


def key_of(name: str) -> str:
    """Return the name under which the records of the project's server `name` are kept: the audience of its tokens."""
    return mcp_settings.SERVER_NAME if name == DEFAULT else f"{mcp_settings.SERVER_NAME}/{name}"


def compile_all() -> list[RegistryError]:
    """Compile every server of the project; return all mistakes."""
    errors: list[RegistryError] = []
    for source in list(servers.values()):
        _compiled[source] = CompiledServer(source, errors)
    return errors


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == SETTING:
        _compiled.clear()


setting_changed.connect(_forget, dispatch_uid="django_mcp.server.compile")
