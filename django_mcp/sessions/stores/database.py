"""The log store in the project's database: SQLite, PostgreSQL, MySQL or MariaDB. Its state store is beside it.

Options: `USING`, the alias in `DATABASES` ("default"); `MAX_RESULTS_PER_PRINCIPAL` (200), over which the oldest kept
result goes; `MAX_CLAIMS_PER_PRINCIPAL` (100,000), over which, give or take a thousandth, nobody claims another key;
`MAX_CONVERSATIONS` (1,000,000), over which nobody begins another one; `BLOBS`, an alias in `STORAGES` that keeps the
large values of states of at least `BLOBS_FROM_BYTES` (65,536). Times are those of the processes, which therefore agree
on the time to within a lease.
"""

import hashlib
import json
import os
import secrets
import socket
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, cast

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.db import IntegrityError, connections
from django.db.models import F, Model, Q, QuerySet
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import Principal, scope_digest
from django_mcp.exceptions import ConfigurationError, Overloaded, StoreUnavailable
from django_mcp.models import Call, Change, ChangeSequence, Claim, Outlet, Question, StoredResult, Stream
from django_mcp.models.claim import ClaimState
from django_mcp.models.session import RETRY_AFTER_SECONDS
from django_mcp.models.transactions import Pace, outages, transact, transactional, translated
from django_mcp.sessions.stores.base import (
    CHANGES_AT_ONCE,
    EVERYTHING,
    ChangeKind,
    Claimed,
    ClaimOutcome,
    Done,
    Interrupted,
    LogStore,
    Mark,
    Mismatched,
    Running,
    Standing,
)
from django_mcp.sessions.stores.blob_storage import BlobStorage
from django_mcp.sessions.stores.calls import CallHold, NewCall
from django_mcp.sessions.stores.database_calls import DatabaseCalls
from django_mcp.sessions.stores.database_questions import DatabaseQuestions
from django_mcp.sessions.stores.database_restoring import DatabaseRestoring
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.database_streams import DatabaseStreams
from django_mcp.sessions.stores.questions import is_question_id
from django_mcp.sessions.stores.state import StateStore
from django_mcp.sessions.stores.streams import KEPT_SECONDS, StreamKind, is_stream_name
from django_mcp.setting import SETTING

OPTIONS: Final = frozenset(
    {
        "BLOBS",
        "BLOBS_FROM_BYTES",
        "MAX_CLAIMS_PER_PRINCIPAL",
        "MAX_CONVERSATIONS",
        "MAX_RESULTS_PER_PRINCIPAL",
        "USING",
    }
)
CLAIM_ROUNDS: Final = 20
CLAIM_COUNTS: Final = 1_000
"""Into so many parts the bound is divided: of each part one claim, at random, looks at how many there are."""
SWEEP_INTERVAL_SECONDS: Final = 60
SWEEP_ROWS: Final = 500
GLANCE_ROWS: Final = 500


class DatabaseStore(DatabaseStreams, DatabaseCalls, DatabaseQuestions, DatabaseRestoring, LogStore):
    supports_transactions = True
    known_options: ClassVar[frozenset[str]] = OPTIONS

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        unknown = self.options.keys() - self.known_options
        if unknown:
            raise ConfigurationError(
                f"{SETTING}['STORES'][{alias!r}]['OPTIONS'] has the unknown keys {sorted(map(str, unknown))}; "
                f"the known ones are {', '.join(sorted(self.known_options))}."
            )
        from_bytes = self.options.get("BLOBS_FROM_BYTES", 0)
        if not isinstance(from_bytes, int) or isinstance(from_bytes, bool) or from_bytes < 0:
            raise self._refused("BLOBS_FROM_BYTES", "a whole number, 0 or more")
        self.write_alias: str = self.options.get("USING", "default")
        self.max_results: int = self.options.get("MAX_RESULTS_PER_PRINCIPAL", 200)
        self.max_claims: int = self.options.get("MAX_CLAIMS_PER_PRINCIPAL", 100_000)
        self._sweeps = Pace(SWEEP_INTERVAL_SECONDS)
        self._state = self._make_state(params)

    def _make_state(self, params: Mapping[str, Any]) -> DatabaseStateStore:
        return DatabaseStateStore(self.alias, params)

    def _refused(self, option: str, meaning: str) -> ConfigurationError:
        return ConfigurationError(
            f"{SETTING}['STORES'][{self.alias!r}]['OPTIONS'][{option!r}] is {self.options[option]!r}; "
            f"it must be {meaning}."
        )

    @property
    def place(self) -> Hashable:
        return DatabaseStore, self.write_alias

    @property
    def state(self) -> StateStore:
        return self._state

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        if self.write_alias not in connections:
            yield Error(
                f"The store {self.alias!r} uses the database {self.write_alias!r}, which is not in DATABASES.",
                hint=f"Set {SETTING}['STORES'][{self.alias!r}]['OPTIONS']['USING'] to one of {sorted(connections)}.",
                id="django_mcp.E010",
            )
        blobs = self.options.get("BLOBS")
        if blobs is not None:
            yield from self._check_storage(blobs)

    def _check_storage(self, blobs: str) -> Iterator[CheckMessage]:
        try:
            BlobStorage(blobs).storage  # noqa: B018 - it is made here
        except ConfigurationError as error:
            known = sorted(settings.STORAGES)
            yield Error(
                f"The store {self.alias!r} keeps large values in a storage that is not there. {error}",
                hint=f"Set {SETTING}['STORES'][{self.alias!r}]['OPTIONS']['BLOBS'] to one of {known}.",
                id="django_mcp.E011",
            )

    # Streams and calls: what begins them also takes away what is over

    def open_stream(self, session: str, kind: StreamKind, *, kept_seconds: float = KEPT_SECONDS) -> str:
        self._tidy()
        return super().open_stream(session, kind, kept_seconds=kept_seconds)

    def begin_calls(
        self,
        server: str,
        scope: str,
        calls: Sequence[NewCall],
        *,
        owner: str,
        lease_seconds: float,
        session: str | None = None,
        stream: str = "",
    ) -> list[CallHold]:
        self._tidy()
        return super().begin_calls(
            server, scope, calls, owner=owner, lease_seconds=lease_seconds, session=session, stream=stream
        )

    @translated
    def glance(
        self, *, streams: Collection[str] = (), calls: Collection[str] = (), questions: Collection[str] = ()
    ) -> dict[str, Mark]:
        read = self._marks
        return {
            **read(Stream, filter(is_stream_name, streams), "last", "reader", "is_open"),
            **read(Call, calls, "fence", "state", "cancel_requested"),
            **read(Question, filter(is_question_id, questions), "state"),
        }

    def _marks(self, model: type[Model], names: Iterable[str], *columns: str) -> dict[str, Mark]:
        rows = model._default_manager.using(self.write_alias)
        sorted_names = sorted(names)
        return {
            row[0]: row[1:]
            for start in range(0, len(sorted_names), GLANCE_ROWS)
            for row in rows.filter(pk__in=sorted_names[start : start + GLANCE_ROWS]).values_list("pk", *columns)
        }

    @transactional
    def forget_session(self, session: str) -> None:
        # Held first, so that nobody appends to one while its events are deleted.
        Stream.objects.using(self.write_alias).filter(session_id=session).update(is_open=False)
        for model in (Stream, Call, Question, Outlet):
            model.objects.using(self.write_alias).filter(session_id=session).delete()

    # Claims

    @translated
    def claim(
        self,
        server: str,
        scope: str,
        key: str,
        *,
        lease_seconds: float,
        lifetime_seconds: float,
        takeover: bool = False,
        digest: str = "",
    ) -> ClaimOutcome:
        self._tidy()
        for _ in range(CLAIM_ROUNDS):
            now = timezone.now()
            terms = {
                "state": ClaimState.RUNNING,
                "digest": digest,
                "owner": f"{socket.gethostname()[:80]}:{os.getpid()}",
                "lease_until": now + timedelta(seconds=lease_seconds),
                "created_at": now,
                "expires_at": now + timedelta(seconds=lifetime_seconds),
            }
            found = self._claims(server, scope, key).first()
            if found is None:
                self._check_room_for_claims(server, scope)
                fence = self._first_claim(server, scope, key, terms)
            elif found.is_free(now) or (takeover and found.is_abandoned(now) and found.digest == digest):
                fence = self._next_claim(found, terms)
            else:
                return _standing(found, now, digest)
            if fence is not None:
                return Claimed(fence=fence)
        raise StoreUnavailable("A claim was neither had nor found taken")

    def _check_room_for_claims(self, server: str, scope: str) -> None:
        """Raise Overloaded over the bound. To count costs what there is, so a large bound is looked at rarely."""
        if secrets.randbelow(max(1, self.max_claims // CLAIM_COUNTS)):
            return
        mine = Claim.objects.using(self.write_alias).filter(server=server, scope=scope)
        if mine.order_by("key_digest").values_list("pk", flat=True)[self.max_claims - 1 : self.max_claims]:
            raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many idempotency keys")

    def _first_claim(self, server: str, scope: str, key: str, terms: Mapping[str, Any]) -> int | None:
        fence = 1 + secrets.randbits(40)

        def insert() -> None:
            Claim.objects.using(self.write_alias).create(
                server=server, scope=scope, key_digest=_digest(key), fence=fence, **terms
            )

        try:
            transact(insert, using=self.write_alias)
        except IntegrityError:
            return None
        return fence

    def _next_claim(self, found: Claim, terms: Mapping[str, Any]) -> int | None:
        seen = Claim.objects.using(self.write_alias).filter(
            pk=found.pk, fence=found.fence, state=found.state, lease_until=found.lease_until
        )
        won = transact(lambda: seen.update(fence=F("fence") + 1, outcome="", **terms), using=self.write_alias)
        return found.fence + 1 if won else None

    @translated
    def peek(self, server: str, scope: str, key: str, *, digest: str | None = None) -> Standing | None:
        found = self._claims(server, scope, key).first()
        now = timezone.now()
        return None if found is None or found.is_free(now) else _standing(found, now, digest)

    @transactional
    def renew(self, server: str, scope: str, key: str, fence: int, *, lease_seconds: float) -> bool:
        until = timezone.now() + timedelta(seconds=lease_seconds)
        return self._held(server, scope, key, fence).update(lease_until=until) == 1

    @transactional
    def settle(self, server: str, scope: str, key: str, fence: int, outcome: Any) -> bool:
        text = json.dumps(outcome, separators=(",", ":"), allow_nan=False)
        return self._held(server, scope, key, fence).update(state=ClaimState.DONE, outcome=text) == 1

    @transactional
    def release(self, server: str, scope: str, key: str, fence: int) -> bool:
        return self._held(server, scope, key, fence).update(state=ClaimState.FREE) == 1

    def _claims(self, server: str, scope: str, key: str) -> QuerySet[Claim]:
        return Claim.objects.using(self.write_alias).filter(server=server, scope=scope, key_digest=_digest(key))

    def _held(self, server: str, scope: str, key: str, fence: int) -> QuerySet[Claim]:
        return self._claims(server, scope, key).filter(fence=fence, state=ClaimState.RUNNING)

    # Changes

    @transactional
    def publish_change(self, server: str, kind: ChangeKind, uri: str = "") -> None:
        if (kind == "resource") != bool(uri):
            raise ValueError(f"A change of kind {kind!r} cannot have the URI {uri!r}.")
        now = timezone.now()
        number = ChangeSequence.objects.using(self.write_alias).take(server)
        changes = Change.objects.using(self.write_alias)
        changes.create(server=server, number=number, kind=kind, uri=json.dumps(uri) if uri else "", created_at=now)
        old = changes.filter(server=server, created_at__lte=now - timedelta(seconds=mcp_settings.CHANGE_SECONDS))
        over = list(old.filter(number__lt=number).order_by("number").values_list("number", flat=True)[:SWEEP_ROWS])
        if over:
            changes.filter(server=server, number__lte=over[-1]).delete()

    @translated
    def changes_since(self, server: str, cursor: int | None) -> tuple[int, list[tuple[ChangeKind, str]]]:
        if cursor is None:
            return self._last_number(server), []
        # The newest notice is never deleted, so the one at the cursor, or the one after it, says that none is missing.
        kept = Change.objects.using(self.write_alias).filter(server=server, number__gte=cursor).order_by("number")
        rows = list(kept.values_list("number", "kind", "uri")[: CHANGES_AT_ONCE + 1])
        if rows and rows[0][0] - cursor <= 1:
            after = [row for row in rows if row[0] > cursor][:CHANGES_AT_ONCE]
            published = [(cast("ChangeKind", kind), json.loads(uri) if uri else "") for _, kind, uri in after]
            return after[-1][0] if after else cursor, published
        if not rows and cursor == 0:
            return 0, []
        last = self._last_number(server)
        return last, [] if last == cursor else list(EVERYTHING)

    def _last_number(self, server: str) -> int:
        sequence = ChangeSequence.objects.using(self.write_alias).filter(server=server)
        return sequence.values_list("last", flat=True).first() or 0

    # Results

    def put_result(
        self,
        server: str,
        tenant: str,
        principal: Principal,
        mime_type: str,
        body: bytes,
        *,
        lifetime_seconds: float | None = None,
    ) -> str:
        self._tidy()
        name = secrets.token_urlsafe(16)
        now = timezone.now()
        seconds = mcp_settings.RESULT_SECONDS if lifetime_seconds is None else lifetime_seconds
        scope = scope_digest(tenant, principal)
        results = StoredResult.objects.using(self.write_alias)
        result = StoredResult(
            name_digest=_digest(name),
            server=server,
            tenant=tenant,
            principal=principal.key,
            scope=scope,
            mime_type=mime_type,
            body=body,
            created_at=now,
            expires_at=now + timedelta(seconds=seconds),
        )
        transact(lambda: result.save(using=self.write_alias, force_insert=True), using=self.write_alias)
        newest = results.filter(server=server, scope=scope).order_by("-id").values_list("id", flat=True)
        with outages(self.write_alias):
            surplus = list(newest[self.max_results : self.max_results + SWEEP_ROWS])
        if surplus:
            transact(lambda: results.filter(id__in=surplus).delete(), using=self.write_alias)
        return name

    @translated
    def get_result(self, name: str, *, server: str, tenant: str, principal: Principal) -> tuple[str, bytes] | None:
        results = StoredResult.objects.using(self.write_alias)
        found = results.filter(name_digest=_digest(name), expires_at__gt=timezone.now()).first()
        if found is None or (found.server, found.tenant, found.principal) != (server, tenant, principal.key):
            return None
        return found.mime_type, bytes(found.body)

    # Bounds

    def sweep(self) -> int:
        """Each noun by a transaction of its own: what is held is held for a moment."""
        return self._sweep_claims_and_results() + self.sweep_streams() + self.sweep_calls() + self.sweep_questions()

    def _tidy(self) -> None:
        if self._sweeps.is_due(self.write_alias):
            self.sweep()

    @transactional
    def _sweep_claims_and_results(self) -> int:
        now = timezone.now()
        over = Q(expires_at__lte=now) & ~Q(state=ClaimState.RUNNING, lease_until__gt=now)
        claims = Claim.objects.using(self.write_alias)
        swept = claims.filter(over, pk__in=list(claims.filter(over).values_list("pk", flat=True)[:SWEEP_ROWS]))
        results = StoredResult.objects.using(self.write_alias)
        ended = results.filter(expires_at__lte=now).values_list("pk", flat=True)[:SWEEP_ROWS]
        return swept.delete()[0] + results.filter(pk__in=list(ended)).delete()[0]


def _standing(found: Claim, now: datetime, digest: str | None) -> Standing:
    if digest is not None and found.digest != digest:
        return Mismatched()
    if found.state == ClaimState.DONE:
        return Done(outcome=json.loads(found.outcome))
    return Running() if found.is_held(now) else Interrupted()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
