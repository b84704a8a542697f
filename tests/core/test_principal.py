"""Principals as values and as keys."""

import pytest

from django_mcp.core.principal import ANONYMOUS, MAX_KEY_LENGTH, Principal, scope_digest


def test_a_principal_has_a_key_that_names_its_kind() -> None:
    assert Principal(kind="user", id="42").key == "user:42"
    assert Principal(kind="oauth", id="auth0|7").key == "oauth:auth0|7"
    assert ANONYMOUS.key == "anonymous"
    assert ANONYMOUS.is_anonymous
    assert not Principal(kind="user", id="42").is_anonymous


def test_a_long_subject_is_folded_into_what_a_column_holds() -> None:
    long, other = Principal(kind="oauth", id="x" * 400), Principal(kind="oauth", id="x" * 401)
    assert len(long.key) <= MAX_KEY_LENGTH
    assert long.key != other.key


def test_a_subject_that_looks_like_a_folded_one_is_not_taken_for_it() -> None:
    folded = Principal(kind="oauth", id="x" * 400).key
    forged = Principal(kind="oauth", id=folded.removeprefix("oauth:"))
    assert forged.key != folded


@pytest.mark.parametrize(("kind", "name"), [("anonymous", "somebody"), ("user", ""), ("oauth", "")])
def test_only_the_anonymous_principal_has_no_id(kind: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"A principal of kind '{kind}' cannot have the id '{name}'"):
        Principal(kind=kind, id=name)  # type: ignore[arg-type]


def test_the_scopes_of_two_tenants_and_principals_never_meet() -> None:
    scopes = {
        scope_digest(tenant, principal)
        for tenant in ("", "a", "user:1", "auser:1")
        for principal in (ANONYMOUS, Principal(kind="user", id="1"), Principal(kind="oauth", id="1"))
    }
    assert len(scopes) == 12
