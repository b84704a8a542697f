"""`manage.py demo`: from an empty folder to a desk that serves."""

import os
import socket
import sys
import textwrap
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from demo_project.desk.credentials import credentials_path, read_credentials
from demo_project.desk.invitation import client_configurations, curl, rest_curl, resumption
from demo_project.desk.models import Airport

HOST = "127.0.0.1"


class Command(BaseCommand):
    """Migrate, load, make users, say how to connect, and become Daphne."""

    help = "Prepare the demo's data and serve it with Daphne."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the port, and a way to stop before serving."""
        parser.add_argument("--port", type=int, default=8000, help="TCP port on 127.0.0.1 (default 8000)")
        parser.add_argument("--prepare", action="store_true", help="prepare and print, do not serve")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the steps; where serving begins, this process is replaced."""
        port: int = options["port"]
        if not options["prepare"]:
            _need_port(port)
        call_command("migrate", interactive=False, verbosity=0)
        if not Airport.objects.exists():
            call_command("load_airports", stdout=self.stdout)
        call_command("demo_users", stdout=self.stdout)
        self.stdout.write(_invitation(f"http://{HOST}:{port}"))
        if not options["prepare"]:
            self.stdout.flush()
            os.execv(  # noqa: S606 - this very interpreter, no shell
                sys.executable,
                [sys.executable, "-m", "daphne", "-b", HOST, "-p", str(port), "demo_project.asgi:application"],
            )


def _need_port(port: int) -> None:
    """Raise where another program has the port, which Daphne would say less plainly."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            msg = f"Port {port} on {HOST} cannot be had ({error}); choose another with --port (PORT= for make)."
            raise CommandError(msg) from error


def _invitation(address: str) -> str:
    """Return what the person at the terminal needs, for a desk at `address`."""
    found = read_credentials(credentials_path())
    url, agent, admin = f"{address}/mcp", found["agent"], found["admin"]
    parts = ["", f"MCP server: {url}", "Paste one of these into a client; it signs in as agent.", ""]
    for client, text in client_configurations(url, agent.token).items():
        parts += [f"{client}:", textwrap.indent(text, "  "), ""]
    parts += [
        "Or try it at once:",
        textwrap.indent(curl(url, agent.token, "search_airports", {"text": "Zurich", "limit": 3}), "  "),
        "",
        "The same airports by the REST API, and by the tool that its viewset is:",
        textwrap.indent(rest_curl(f"{address}/api/airports/?search=Zurich", agent.token), "  "),
        "",
        textwrap.indent(curl(url, agent.token, "airport_list", {"search": "Zurich"}), "  "),
        "",
        "The desk remembers. Draft a leg, and show the draft by the token that came back, here or at another process:",
        textwrap.indent(resumption(url, agent.token), "  "),
        "",
        f"Admin: {address}/admin/ as {admin.username}, password {admin.password}",
        "",
    ]
    return "\n".join(parts)
