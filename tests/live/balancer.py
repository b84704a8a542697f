"""nginx before several servers: each request goes to the next of them, and nothing binds a session to one."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.services import HOST, PrivateServer, Service, accepts
from tests.services.private import FOLDERS, find_binary

SERVED_BY = "x-served-by"

CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # Each request has a connection of its own, so that what cuts connections cuts one request.
    keepalive_timeout 0;
    upstream service {{ {servers} }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 120s;
            add_header {served_by} $upstream_addr always;
        }}
    }}
}}
"""


class Balancer(PrivateServer):
    """Run an nginx that gives requests to `ports` in turn; one that does not accept connections is passed over."""

    title: ClassVar[str] = "nginx"
    users: ClassVar[tuple[str, ...]] = ("www-data", "nginx")

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__()
        self._ports = ports

    @staticmethod
    def is_installed() -> bool:
        return any(shutil.which("nginx", path=path) for path in (None, *FOLDERS))

    def prepare(self, folder: Path) -> None:
        servers = " ".join(f"server {HOST}:{port} max_fails=0;" for port in self._ports)
        (folder / "nginx.conf").write_text(
            CONFIGURATION.format(folder=folder, host=HOST, port=self.port, servers=servers, served_by=SERVED_BY)
        )

    def command(self, folder: Path) -> list[str]:
        return [find_binary("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]

    def is_ready(self) -> bool:
        return accepts(self.port)

    @property
    def service(self) -> Service:
        return Service(scheme="http", host=HOST, port=self.port)
