"""States leave a project, and come into one, as documents."""

from collections.abc import Iterator

from django.core.management.base import CommandError

from django_mcp.authentication import principal_of
from django_mcp.core.document import Document, Origin, write
from django_mcp.core.draft import Draft
from django_mcp.core.entry import BlobRef, entry_of
from django_mcp.core.value import StateBoundExceeded
from django_mcp.management.states import bytes_of, whole_reader_of
from django_mcp.management.users import user_named
from django_mcp.models import Conversation
from django_mcp.registry.server import Server, servers
from django_mcp.server.compile import key_of
from django_mcp.sessions.bounds import state_bounds
from django_mcp.sessions.commit import commit, empty_base
from django_mcp.sessions.stores import CallNote, Head, StateStore

MAX_TENANT_LENGTH = Conversation._meta.get_field("tenant").max_length or 0


def exported(state: StateStore, head: Head) -> Iterator[str]:
    """Give the document of a generation piece by piece, one large value at a time."""
    record = head.conversation
    origin = Origin(
        conversation=record.id,
        kind=record.kind,
        server=record.server,
        tenant=record.tenant,
        principal=record.principal,
        generation=head.generation,
    )
    entries = whole_reader_of(state, head).entries()
    yield from write(origin, ((key, bytes_of(state, record, entry)) for key, entry in entries.items()))


def server_for(document: Document, name: str | None) -> Server:
    """Return the server of that name, by default the one that the document comes from.

    Raises CommandError if the project has no such server.
    """
    known = ", ".join(sorted(servers))
    if name is not None:
        if name not in servers:
            raise CommandError(f"There is no MCP server {name!r}; there are {known}.")
        return servers[name]
    for found in servers.values():
        if key_of(found.name) == document.origin.server:
            return found
    raise CommandError(
        f"The document is of the server {document.origin.server!r}, which this project does not have; say by --server "
        f"which one it is for: {known}."
    )


def imported(state: StateStore, document: Document, *, server: Server, user: str, tenant: str | None) -> Head:
    """Begin a conversation of a user that has what the document has."""
    tenant = document.origin.tenant if tenant is None else tenant
    if len(tenant) > MAX_TENANT_LENGTH:
        raise CommandError(f"A tenant has {MAX_TENANT_LENGTH} characters at most.")
    owner = user_named(user)
    bounds = state_bounds()
    entries = {key: entry_of(data, inline_bytes=bounds.inline_bytes) for key, data in document.values.items()}
    large = {entry.digest: document.values[key] for key, entry in entries.items() if isinstance(entry, BlobRef)}
    begun = state.begin(server=key_of(server.name), tenant=tenant, principal=principal_of(owner), user=owner)
    try:
        return commit(
            state,
            empty_base(begun),
            Draft(changes=entries, bodies=large),
            bounds=bounds,
            call=CallNote(name="import"),
        )
    except StateBoundExceeded as error:
        state.expire(begun.conversation)
        raise CommandError(f"{error}.") from error
