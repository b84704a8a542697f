"""The everything server passes every scenario of the official conformance suites, under Daphne and under uvicorn.

And with classes of Django REST framework at its endpoint.
"""

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import cache_folder, node_or_skip
from tests.services import HOST, free_port, wait_until

RUN = Path(__file__).with_name("run.sh")
ROOT = Path(__file__).parents[2]
EXPECTED = "159 passed, 0 failed"
SERVERS = [os.environ["SERVER"]] if os.environ.get("SERVER") else ["daphne", "uvicorn"]
CASES = [*((server, "") for server in SERVERS), (SERVERS[0], "1")]

pytestmark = pytest.mark.conformance


def answers(url: str) -> bool:
    """Tell whether HTTP is spoken there, whatever the status."""
    try:
        urllib.request.urlopen(url, timeout=3).close()
    except urllib.error.HTTPError as refusal:
        refusal.close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def everything(server: str, rest_framework: str, folder: Path) -> Iterator[str]:
    """Serve the everything server with a database of its own; give its URL."""
    port = free_port()
    url = f"http://{HOST}:{port}/mcp"
    environment = {key: value for key, value in os.environ.items() if key != "REDIS_URL"}
    environment |= {"SERVER": server, "DATABASE_URL": f"sqlite:///{folder / 'everything.sqlite3'}"}
    environment["REST_FRAMEWORK"] = rest_framework
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.everything", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:

        def is_up() -> bool:
            return process.poll() is not None or answers(url)

        wait_until(is_up, seconds=60, what=f"the everything server under {server}")
        if process.poll() is not None:
            pytest.fail(f"the everything server under {server} ended:\n{log.read_text(errors='replace')[-4000:]}")
        yield url
        if process.poll() is not None:
            pytest.fail(f"the everything server under {server} died:\n{log.read_text(errors='replace')[-4000:]}")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("server", "rest_framework"), CASES)
def test_every_scenario_of_both_suites_passes(server: str, rest_framework: str, tmp_path: Path) -> None:
    node = node_or_skip()
    environment = node.environment | {
        "MCP_CONFORMANCE_NODE": str(node.node),
        "MCP_CONFORMANCE_NPM": str(node.npm),
        "MCP_CONFORMANCE_CACHE": str(cache_folder() / "conformance"),
        "MCP_CONFORMANCE_OUT": str(tmp_path / "results"),
    }
    with everything(server, rest_framework, tmp_path) as url:
        done = subprocess.run(
            ["bash", str(RUN), url],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    print(f"\nunder {server}{rest_framework and ' with REST framework'}:\n{done.stdout}")
    assert done.stdout.rstrip().rpartition("\n")[2] == EXPECTED
    assert done.returncode == 0
