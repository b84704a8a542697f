"""The commands of the README that take a token from one process to another, run as they stand there."""

import json
import subprocess

import pytest

from tests.demo.served import Served
from tests.test_readme import snippets

pytestmark = pytest.mark.live

LEGS = [("ZRH", "JFK", "2027-03-01"), ("JFK", "ZRH", "2027-03-09")]


def test_the_commands_of_the_readme_show_what_it_says(served: Served, second: Served) -> None:
    (commands,) = (snippet.text for snippet in snippets("bash"))
    (shown,) = (snippet.text for snippet in snippets("text"))
    for placeholder, real in (
        ("mcp_your_token", served.token("agent")),
        ("mcp 8000 ", f"mcp {served.port} "),
        ("mcp 8001 ", f"mcp {second.port} "),
    ):
        assert commands.count(placeholder) == 1
        commands = commands.replace(placeholder, real)

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], capture_output=True, text=True, timeout=60, check=True
    )

    result = json.loads(done.stdout)["result"]
    legs = [(leg["origin"], leg["destination"], leg["departs_on"]) for leg in result["structuredContent"]["legs"]]
    assert (legs, result["isError"]) == (LEGS, False)
    rest = done.stdout
    for fragment in shown.replace("\n", "").split("…"):
        _, found, rest = rest.partition(fragment)
        assert found, fragment
    assert '"POST /mcp" 200' in second.printed
