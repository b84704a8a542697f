"""The name of one event on one stream, as a client sends it back in `Last-Event-ID`.

`<stream>.<sequence>.<mac>`: the MAC binds stream and sequence to the session, so that a guessed, altered or foreign id
names nothing. Sequence numbers run 1…n; 0 names the place before the first event.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EventId:
    """A place on a stream."""

    stream: str
    sequence: int

    def seal(self, key: bytes, session: str) -> str:
        """Return the text for the wire, at most 80 visible ASCII characters."""
        return f"{self.stream}.{self.sequence}.{self._mac(key, session)}"

    @classmethod
    def open(cls, text: str, keys: list[bytes], session: str) -> EventId | None:
        """Return the place that `text` names in `session`, or None when it names none under any of `keys`."""
        stream, _, rest = text.partition(".")
        number, _, mac = rest.partition(".")
        if not (stream and mac and number.isascii() and number.isdigit() and len(number) <= 12):
            return None
        place = cls(stream=stream, sequence=int(number))
        for key in keys:
            if hmac.compare_digest(place._mac(key, session).encode(), mac.encode("utf-8", "surrogatepass")):
                return place
        return None

    def _mac(self, key: bytes, session: str) -> str:
        message = f"{session}\n{self.stream}\n{self.sequence}".encode()
        return base64.urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)[:12]).decode("ascii")
