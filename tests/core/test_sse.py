"""Server-sent events, there and back."""

import pytest

from django_mcp.core import sse


def test_what_is_encoded_is_read_back() -> None:
    sent = sse.event(b'{"a":1}', event_id="e1", retry_ms=2000) + sse.comment() + sse.event(b"", event_id="e2")
    assert sse.Decoder().feed(sent + sse.retry(500)) == [
        sse.Event(data='{"a":1}', event_id="e1", retry_ms=2000),
        sse.Event(event_id="e2"),
        sse.Event(retry_ms=500),
    ]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_bytes_may_be_cut_anywhere(line_break: str) -> None:
    text = ": hello\n\nevent: other\nid: 7\ndata: für\ndata:dich\n\ndata: second\n\n".replace("\n", line_break)
    decoder, events = sse.Decoder(), []
    for byte in text.encode() + b"\n":
        events += decoder.feed(bytes([byte]))
    assert events == [sse.Event(data="für\ndich", name="other", event_id="7"), sse.Event(data="second")]


def test_an_event_is_not_read_before_it_is_whole() -> None:
    decoder = sse.Decoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [sse.Event(data="a")]
    assert decoder.feed(b"data: never ended") == []


def test_fields_that_nobody_knows_and_odd_times_are_skipped() -> None:
    assert sse.Decoder().feed(b"retry: soon\nwhatever\n\n") == []
