"""The claims of a token as bytes, their bounds, and the rules about their standing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_mcp.core.principal import Principal, scope_digest
from django_mcp.core.token import PACKED_BYTES, RESUMPTION, MalformedClaims, Refusal, TokenClaims, name_digest, short

CLAIMS = TokenClaims(
    conversation="0123456789abcdef" * 2,
    generation=7,
    snapshot=short("ab" * 32),
    audience=name_digest("shop"),
    caller=short(scope_digest("tenant", Principal(kind="user", id="42"))),
    issued=1_000_000,
    expires=1_604_800,
)

_names = st.binary(min_size=16, max_size=16).map(bytes.hex)
_numbers = st.integers(0, 2**64 - 1)


@given(_names, _numbers, _names, _names, _names, _numbers, _numbers)
def test_claims_come_back_from_their_bytes(
    conversation: str, generation: int, snapshot: str, audience: str, caller: str, issued: int, expires: int
) -> None:
    claims = TokenClaims(
        conversation=conversation,
        generation=generation,
        snapshot=snapshot,
        audience=audience,
        caller=caller,
        issued=issued,
        expires=expires,
    )
    assert len(claims.pack()) == PACKED_BYTES
    assert TokenClaims.unpack(claims.pack()) == claims


def test_a_sealed_token_stays_far_within_300_bytes_whatever_the_claims() -> None:
    sealed_bytes = 4 + 12 + PACKED_BYTES + 16
    assert len("v2:") + (sealed_bytes * 4 + 2) // 3 <= 170
    assert PACKED_BYTES <= 100


@given(st.binary(max_size=2 * PACKED_BYTES))
def test_other_bytes_are_not_claims(data: bytes) -> None:
    if len(data) == PACKED_BYTES and data[:2] == CLAIMS.pack()[:2]:
        return
    with pytest.raises(MalformedClaims, match="not the claims of a token of this version"):
        TokenClaims.unpack(data)


@pytest.mark.parametrize(
    "data", [b"", CLAIMS.pack()[:-1], CLAIMS.pack() + b"\0", b"\1" + CLAIMS.pack()[1:], b"x" * 10_240]
)
def test_claims_of_another_version_or_length_are_not_read(data: bytes) -> None:
    with pytest.raises(MalformedClaims):
        TokenClaims.unpack(data)
    with pytest.raises(MalformedClaims):
        TokenClaims.unpack(CLAIMS.pack()[:1] + b"\x09" + CLAIMS.pack()[2:])


@pytest.mark.parametrize(
    "wrong",
    [
        {"conversation": "short"},
        {"conversation": "0123456789ABCDEF" * 2},
        {"conversation": " 123456789abcdef" * 2},
        {"snapshot": ""},
        {"caller": "ab" * 32},
        {"generation": -1},
        {"expires": 2**64},
        {"purpose": "admin"},
    ],
)
def test_claims_that_would_not_come_back_are_not_packed(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"hexadecimal|cannot be packed"):
        replace(CLAIMS, **wrong).pack()  # type: ignore[arg-type]


def test_claims_are_good_for_one_audience_and_one_caller_until_they_expire() -> None:
    def refusal(
        now: int, *, audience: str = CLAIMS.audience, caller: str = CLAIMS.caller, purpose: str = RESUMPTION
    ) -> Refusal | None:
        return CLAIMS.refusal(audience=audience, caller=caller, now=now, purpose=purpose)

    assert refusal(1_000_000) is None
    assert refusal(1_604_799) is None
    assert refusal(1_604_800) == "expired"
    assert refusal(999_940) is None
    assert refusal(999_939) == "not_yet"
    assert refusal(1_000_000, audience=name_digest("other")) == "audience"
    assert refusal(1_000_000, caller=name_digest("other")) == "caller"
    assert refusal(1_000_000, purpose="admin") == "purpose"


def test_a_token_redeems_on_its_own_generation_and_on_any_later_one() -> None:
    assert CLAIMS.standing(generation=7, snapshot="ab" * 32) == "current"
    assert CLAIMS.standing(generation=8, snapshot="cd" * 32) == "behind"
    assert CLAIMS.standing(generation=8, snapshot="cd" * 32, revoked_up_to=6) == "behind"
    assert replace(CLAIMS, generation=0, snapshot=short("")).standing(generation=0, snapshot="") == "current"


def test_a_token_of_a_lost_commit_is_ahead() -> None:
    assert CLAIMS.standing(generation=6, snapshot="cd" * 32) == "ahead"
    assert CLAIMS.standing(generation=7, snapshot="cd" * 32) == "ahead"


def test_a_revoked_token_is_revoked_before_anything_else() -> None:
    assert CLAIMS.standing(generation=8, snapshot="cd" * 32, revoked_up_to=7) == "revoked"
    assert CLAIMS.standing(generation=5, snapshot="cd" * 32, revoked_up_to=9) == "revoked"
