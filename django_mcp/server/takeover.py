"""Going on with a call whose process died: who asked, what for, and whether they still may.

The session, its user and the permission are looked at again. No header of the request is known here, and nothing that
the dead process held is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.urls import Resolver404, resolve

from django_mcp.exceptions import MCPException
from django_mcp.models import MCPSession
from django_mcp.server.caller import Arrival, Caller
from django_mcp.server.kernel import Kernel
from django_mcp.server.log import Log
from django_mcp.server.parcel import Parcel
from django_mcp.server.reply import Reply
from django_mcp.server.run import Run
from django_mcp.server.threads import Threads
from django_mcp.sessions.sealing import Unsealable
from django_mcp.sessions.stores import CallRecord

if TYPE_CHECKING:
    from django_mcp.server.keeper import CallKeeper


class NotTaken(MCPException):
    """A call that cannot go on here. `tells` says whether somebody may still wait for its end."""

    def __init__(self, reason: str, *, tells: bool) -> None:
        super().__init__(reason)
        self.tells = tells


async def continued(kernel: Kernel, threads: Threads, keeper: CallKeeper, record: CallRecord) -> Run:
    """Run a call that was taken over, onto the stream that it has.

    Raises:
        NotTaken: its session has ended, or its request cannot be read.
    """
    try:
        parcel = Parcel.unseal(record.payload)
    except Unsealable as error:
        raise NotTaken(f"its request cannot be read ({error})", tells=True) from error
    session = await threads.background.run(_session, record.session)
    if session is None:
        raise NotTaken("its session has ended", tells=False)
    arrival = _arrival(threads, session, parcel)
    log = Log.of(kernel.server.store_alias, threads)
    reply = Reply(log, session, keeper, streams=True, stream=record.stream)
    run = Run(kernel, arrival, session, parcel.message, reply)
    run.continue_from(record)
    keeper.keep(run)
    run.follow()
    reply.begin([run])
    return run


def _session(key: str | None) -> MCPSession | None:
    """Return the session if it is active and its user is who it was; one whose user is not ends by that."""
    session = MCPSession.objects.current().select_related("user").filter(pk=key).first()
    if session is not None and not session.is_users(session.user):
        session.revoke()
        return None
    return session


def _arrival(threads: Threads, session: MCPSession, parcel: Parcel) -> Arrival:
    user = session.user or AnonymousUser()
    caller = Caller(principal=parcel.principal, tenant=session.tenant, user=user, address=session.address)
    return Arrival(
        method="POST",
        headers={},
        caller=caller,
        threads=threads,
        make_request=lambda: _request(parcel.path, session.address, user),
    )


def _request(path: str, address: str, user: Any) -> HttpRequest:
    request = HttpRequest()
    request.method = "POST"
    request.path = request.path_info = path
    request.META = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "REMOTE_ADDR": address}
    request.user = user
    try:
        request.resolver_match = resolve(path)
    except Resolver404:
        request.resolver_match = None
    return request
