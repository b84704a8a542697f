"""A site with the plain view in it, and one view of the project's own beside it."""

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from django_mcp import Context, Server

LONG_TEXT = "All work and no play makes a dull page. " * 50

server = Server("view-site", "1")


@server.tool(read_only=True)
def long_text() -> str:
    """Return a text that is worth compressing."""
    return LONG_TEXT


@server.tool(read_only=True)
def count_up(ctx: Context) -> str:
    """Report progress twice."""
    ctx.progress(1, 2)
    ctx.progress(2, 2, message=LONG_TEXT)
    return "counted"


@server.tool(read_only=True)
def is_in_transaction() -> bool:
    """Tell whether the request began a transaction."""
    connection.ensure_connection()
    return connection.in_atomic_block


@server.tool(read_only=True)
def caller_name(ctx: Context) -> str:
    """Name the caller, and the path that was called."""
    return f"{ctx.user.get_username() or 'nobody'} at {ctx.request.path}"


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(LONG_TEXT)


urlpatterns = [
    path("mcp", include("django_mcp.urls"), {"server": "view-site"}),
    path("page", page),
]
