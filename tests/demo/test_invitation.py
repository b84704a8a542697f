"""What is printed for clients is what they read."""

import json
import shlex
from itertools import pairwise

from demo_project.desk.invitation import call_request, client_configurations, curl

URL = "http://127.0.0.1:8000/mcp"


def test_each_client_gets_json_with_the_url_and_the_token() -> None:
    found = {name: json.loads(text) for name, text in client_configurations(URL, "mcp_secret").items()}

    assert len(found) == 3
    for configuration in found.values():
        ((_, servers),) = configuration.items()
        assert servers["travel-desk"]["url"] == URL
        assert servers["travel-desk"]["headers"] == {"Authorization": "Bearer mcp_secret"}


def test_curl_sends_what_a_modern_call_needs() -> None:
    words = shlex.split(curl(URL, "mcp_secret", "search_airports", {"text": "Côte d'Azur"}))
    sent = dict(word.split(": ", 1) for name, word in pairwise(words) if name == "-H")
    body = json.loads(words[words.index("-d") + 1])

    assert words[:3] == ["curl", "-sS", URL]
    assert (sent, body) == call_request("mcp_secret", "search_airports", {"text": "Côte d'Azur"})
    assert sent["MCP-Protocol-Version"] == body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
    assert sent["Mcp-Method"] == body["method"] == "tools/call"
    assert sent["Mcp-Name"] == body["params"]["name"] == "search_airports"
    assert {"io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/clientCapabilities"} <= set(
        body["params"]["_meta"]
    )
