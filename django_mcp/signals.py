"""Signals for metrics and audits. Receivers run in the thread that serves the call; what they raise is logged."""

from django.dispatch import Signal

token_issued = Signal()
"""A resumption token was issued.

Sent with `sender` (the server's key), `conversation` (its id), `generation`, `token_bytes`, `manifest_bytes`,
`state_bytes` (all keys and values), `keys`, `read_seconds` and `commit_seconds` (0.0 where nothing was committed).
"""

token_refused = Signal()
"""A resumption token was refused.

Sent with `sender` (the server's key), `reason` (for people; never for the client), `conversation` (the id it claims,
or an empty text) and `fingerprint` (of the token).
"""

call_finished = Signal()
"""A call of a tool has ended: answered, refused before its body began, cancelled, or lost with its process.

Sent once for each, by the process that ended it, with `sender` (the server's key) and `call` (a
`django_mcp.server.finished_call.FinishedCall`). These receivers run on a thread that serves no call, and the answer
waits for them.
"""

size_budget_exceeded = Signal()
"""Something grew beyond SIZE_BUDGET_BYTES.

Sent with `sender` (the server's key), `what` ("manifest" or "header"), `bytes`, `budget_bytes` and `conversation`.
"""
