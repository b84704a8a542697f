"""What is kept elsewhere of a conversation goes with its row: when its user is deleted, or somebody deletes rows."""

import logging
from copy import copy
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete

from django_mcp.exceptions import ConfigurationError, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.sessions.stores import stores
from django_mcp.sessions.stores.indexed_state import IndexedStateStore

logger = logging.getLogger("django_mcp.state")


def _deleted(instance: Conversation, using: str, **kwargs: Any) -> None:
    if instance.store:
        # When the transaction commits, the instance has lost its key.
        transaction.on_commit(partial(_erase, copy(instance)), using=using)


def _erase(row: Conversation) -> None:
    try:
        store = stores[row.store].state
        if isinstance(store, IndexedStateStore):
            store.erase(row)
    except (ConfigurationError, StoreUnavailable) as error:
        # Whoever deletes a user must be able to; what has a clock goes by that.
        logger.error("what the store %r keeps of conversation %s stays there: %s", row.store, row.fingerprint, error)


post_delete.connect(_deleted, sender=Conversation, dispatch_uid="django_mcp.sessions.deletion")
