"""Steps of the contract of a state store, with manifests that stand for real ones."""

import hashlib
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from django_mcp.core.principal import Principal
from django_mcp.sessions.stores.state import CallNote, ConversationRecord, Head, StateStore

ALICE = Principal(kind="user", id="1")
BOB = Principal(kind="user", id="2")


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def manifest_of(*blobs: bytes, pages: tuple[bytes, ...] = (), **values: Any) -> bytes:
    """Return a manifest that holds `values` and references blobs, and pages that are manifests themselves."""
    found = {"blobs": sorted(map(sha256, blobs)), "pages": sorted(map(sha256, pages)), "values": values}
    return json.dumps(found, sort_keys=True).encode()


def references(root: bytes, fetch: Callable[[str], bytes]) -> set[str]:
    """Return what a manifest of `manifest_of()` needs."""
    found = json.loads(root)
    needed = {*found["blobs"], *found["pages"]}
    for page in found["pages"]:
        needed |= references(fetch(page), fetch)
    return needed


class StateSteps:
    """What tests of a state store do; the fixture `store` is the subclass's."""

    @pytest.fixture
    def store(self) -> StateStore:
        raise NotImplementedError("Define the fixture `store` in the subclass.")

    @pytest.fixture
    def server(self) -> str:
        """Return the name of a server that no other test uses, so that a store may outlive a test."""
        return f"server-{secrets.token_hex(6)}"

    def begin(self, store: StateStore, server: str, **terms: Any) -> Head:
        return store.begin(**{"server": server, "tenant": "", "principal": ALICE, **terms})

    def find(self, store: StateStore, server: str, conversation: str, **terms: Any) -> Head:
        return store.find(conversation, **{"server": server, "tenant": "", "principal": ALICE, **terms})

    def commit(
        self,
        store: StateStore,
        conversation: ConversationRecord,
        base: int,
        *blobs: bytes,
        pages: tuple[bytes, ...] = (),
        supply: bool = True,
        call: CallNote | None = None,
        **values: Any,
    ) -> Head:
        manifest = manifest_of(*blobs, pages=pages, **values)
        return store.commit(
            conversation,
            base_generation=base,
            manifest=manifest,
            snapshot=sha256(manifest),
            blobs={sha256(body): body for body in (*blobs, *pages)} if supply else {},
            call=call,
        )
