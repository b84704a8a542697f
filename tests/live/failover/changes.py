"""Changes: made at B, heard at A, by each session and subscription once."""

from typing import Any

from tests.live.failover.stage import Stage, methods, new_name, structured
from tests.live.wire import Caller, Streaming

LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def tell_a_subscription(stage: Stage) -> None:
    uri = _uri()
    with _subscribe(stage, uri) as stream:
        structured(stage.at_b().modern_call("tell", {"uri": uri, "tools": True, "prompts": True}))
        heard = [stream.next_message() for _ in range(3)]
        assert sorted(methods(heard)) == ["prompts/list_changed", "resources/updated", "tools/list_changed"]
        assert [message["params"]["uri"] for message in heard if "uri" in message["params"]] == [uri]


def tell_by_a_command(stage: Stage) -> None:
    uri = _uri()
    here = stage.session()
    here.request("resources/subscribe", {"uri": uri})
    with _subscribe(stage, uri) as modern, _listen(here) as handshake:
        stage.b.run("django", "announce", "prompts", uri)
        for stream in (modern, handshake):
            assert methods([stream.next_message() for _ in range(2)]) == ["prompts/list_changed", "resources/updated"]


def tell_a_session(stage: Stage) -> None:
    here, there = stage.pair()
    uri = _uri()
    assert there.request("resources/subscribe", {"uri": uri}).status == 200
    with _listen(here) as stream:
        there.call("tell", {"uri": uri, "tools": True})
        there.call("tell", {"uri": f"{uri}-of-others"})
        there.call("tell", {"prompts": True})
        assert _heard(stream, "prompts/list_changed") == [
            ("resources/updated", uri),
            ("tools/list_changed", None),
            ("prompts/list_changed", None),
        ]


def tell_the_newest_stream(stage: Stage) -> None:
    here, there = stage.pair()
    with _listen(here) as older, _listen(there) as newer:
        assert older.rest() == []
        here.call("tell", {"tools": True})
        there.call("tell", {"prompts": True})
        assert methods_heard(newer, "prompts/list_changed") == ["tools/list_changed", "prompts/list_changed"]
        with _listen(here) as newest:
            assert newer.rest() == []
            there.call("tell", {"resources": True})
            assert methods_heard(newest, "resources/list_changed") == ["resources/list_changed"]


def tell_two_sessions(stage: Stage) -> None:
    (one, _), (_, two) = stage.pair(), stage.pair()
    with _listen(one) as first, _listen(two) as second:
        two.call("tell", {"tools": True})
        one.call("tell", {"prompts": True})
        for stream in (first, second):
            assert methods_heard(stream, "prompts/list_changed") == ["tools/list_changed", "prompts/list_changed"]


def tell_a_stream_that_comes_back(stage: Stage) -> None:
    """What was told while nobody listened is heard when the stream is resumed at the other process."""
    here, there = stage.pair()
    with _listen(here) as stream:
        there.call("tell", {"tools": True})
        stream.next_message("notifications/tools/list_changed")
    there.call("tell", {"prompts": True})
    with there.listen(stream.last_event_id) as resumed:
        assert resumed.status == 200
        assert "prompts/list_changed" in methods_heard(resumed, "prompts/list_changed")


def methods_heard(stream: Streaming, last: str) -> list[str]:
    return [method for method, _ in _heard(stream, last)]


def _heard(stream: Streaming, last: str) -> list[tuple[str, Any]]:
    """Return what a stream says of changes, up to one of them: what it is of, and the URI if it has one."""
    heard: list[tuple[str, Any]] = []
    while not heard or heard[-1][0] != last:
        message = stream.next_message()
        heard.append((methods([message])[0], message.get("params", {}).get("uri")))
    return heard


def _listen(caller: Caller) -> Streaming:
    stream = caller.listen()
    assert stream.next_event().data == ""
    return stream


def _subscribe(stage: Stage, uri: str) -> Streaming:
    """Subscribe at A, and return the stream once that is acknowledged."""
    wanted = {**LISTS, "resourceSubscriptions": [uri]}
    stream = Caller(port=stage.a.port).modern_stream("subscriptions/listen", {"notifications": wanted})
    said = stream.next_message()
    assert methods([said]) == ["subscriptions/acknowledged"]
    assert said["params"]["notifications"]["resourceSubscriptions"] == [uri]
    return stream


def _uri() -> str:
    return f"ledger://watched/{new_name()}"
