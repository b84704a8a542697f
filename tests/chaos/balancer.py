"""nginx in front of the servers: takes turns among them, knows no session, buffers nothing, repeats nothing."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from tests.services import HOST, PrivateServer, Service, accepts
from tests.services.private import find_binary

SILENCE_SECONDS: Final = 60
_CONFIG: Final = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream servers {{
        {servers}
    }}
    server {{
        listen {host}:{port} backlog=4096;
        client_max_body_size 8m;
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_next_upstream off;
            proxy_connect_timeout 5s;
            proxy_read_timeout {silence}s;
        }}
    }}
}}
"""


class Balancer(PrivateServer):
    """Run an nginx in front of some ports."""

    title: ClassVar[str] = "nginx"
    users: ClassVar[tuple[str, ...]] = ("www-data", "nginx")
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__()
        self._ports = ports

    def prepare(self, folder: Path) -> None:
        # A server that does not answer is asked again at once: nobody is spared what a killed one does to a client.
        servers = "\n        ".join(f"server {HOST}:{port} max_fails=0;" for port in self._ports)
        config = _CONFIG.format(folder=folder, servers=servers, host=HOST, port=self.port, silence=SILENCE_SECONDS)
        (folder / "nginx.conf").write_text(config)
        self.run(find_binary("nginx"), "-t", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "errors")

    def command(self, folder: Path) -> list[str]:
        return [find_binary("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "errors"]

    def is_ready(self) -> bool:
        return accepts(self.port)

    def reload(self) -> None:
        """Let new workers take over; the old ones end with their last connection."""
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    @property
    def service(self) -> Service:
        return Service(scheme="http", host=HOST, port=self.port)
