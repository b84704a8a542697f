"""`subscriptions/listen`: one request whose response is the stream of changes.

MCP 2026-07-28, basic/patterns/subscriptions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import (
    SubscriptionFilter,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)

from django_mcp.exceptions import LimitExceeded
from django_mcp.server.call import Call
from django_mcp.server.changes import Subscription, change_feed
from django_mcp.server.drain import process_drain
from django_mcp.sessions.stores.base import ChangeKind

MAX_URIS: Final = 1_000
FULL: Final = 0.9
"""From which part of what a response may hold on a subscription ends, for its client to begin another."""

_METHODS: Final[dict[ChangeKind, str]] = {
    "tools": "notifications/tools/list_changed",
    "prompts": "notifications/prompts/list_changed",
    "resources": "notifications/resources/list_changed",
    "resource": "notifications/resources/updated",
}


Readable = Callable[[Sequence[str]], Awaitable[Collection[str]]]


async def listen(
    call: Call, params: SubscriptionsListenRequestParams, readable: Readable
) -> SubscriptionsListenResult:
    """Acknowledge what will be delivered, then deliver it until the client goes away, or this process does.

    The acknowledgement is the first message of the stream; each message carries the id of the request that opened it.

    Args:
        readable: says which of some URIs the caller may read; the others are not subscribed to.

    Raises:
        Overloaded: this process is going already.
    """
    drain = process_drain()
    drain.admit_stream()
    asked = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
    if len(asked) > MAX_URIS:
        raise LimitExceeded(f"more than {MAX_URIS} resource subscriptions")
    uris = await readable(asked) if asked else ()
    honoured = _honoured(params.notifications, [uri for uri in asked if uri in uris])
    meta = {SUBSCRIPTION_ID_META_KEY: call.request_id}
    feed = change_feed(call.server.key, call.server.store_alias)
    subscription = await feed.subscribe(call.arrival.threads.background)
    try:
        await call.notify(
            "notifications/subscriptions/acknowledged",
            {"notifications": honoured.model_dump(by_alias=True, exclude_none=True), "_meta": meta},
        )
        with drain.on_begin(subscription.arrived.set):
            while not (subscription.lost or drain.is_draining or call.outlet.used > FULL):
                for kind, uri in await subscription.next():
                    if kind == "resource":
                        for one in sorted(uris) if not uri else {uri}.intersection(uris):
                            await call.notify(_METHODS[kind], {"uri": one, "_meta": meta})
                    elif _wants(honoured, kind):
                        await call.notify(_METHODS[kind], {"_meta": meta})
        # It is the server that ends this subscription (basic/patterns/cancellation).
        await call.notify(
            "notifications/cancelled",
            {"requestId": call.request_id, "reason": _reason(subscription), "_meta": meta},
        )
    finally:
        feed.unsubscribe(subscription)
    return SubscriptionsListenResult(_meta=meta)


def _reason(subscription: Subscription) -> str:
    if subscription.lost:
        return "changes were missed"
    return "the server process ends" if process_drain().is_draining else "the response is as long as one may be"


def _honoured(requested: SubscriptionFilter, uris: list[str]) -> SubscriptionFilter:
    """Return what of the requested filter is delivered: the lists that are asked for, and `uris`."""
    return SubscriptionFilter(
        tools_list_changed=requested.tools_list_changed or None,
        prompts_list_changed=requested.prompts_list_changed or None,
        resources_list_changed=requested.resources_list_changed or None,
        resource_subscriptions=uris or None,
    )


def _wants(honoured: SubscriptionFilter, kind: ChangeKind) -> bool:
    return bool(getattr(honoured, f"{kind}_list_changed"))
