"""What strangers try: somebody else's names, and names that look like them."""

import random

import pytest

from tests.chaos.strangers import Loot, unknown_like


@pytest.mark.parametrize(
    "value", ["d0b1cc6e7a9f4e5c8d7b6a5948372615", "s1abcdefghijklmn.3.QUJDREVGR0hJSktM", "v2:abcDEF_-9"]
)
def test_an_unknown_name_has_the_shape_of_a_real_one_and_is_another(value: str) -> None:
    for seed in range(50):
        other = unknown_like(random.Random(seed), value)
        assert other != value
        assert len(other) == len(value)
        assert [letter for letter in other if not letter.isalnum()] == [
            letter for letter in value if not letter.isalnum()
        ]


def test_nobody_is_given_a_name_of_their_own() -> None:
    loot, rng = Loot(), random.Random(1)
    assert loot.pick(rng, "session", "user-0") is None
    loot.drop("session", "user-0", "a")
    assert loot.pick(rng, "session", "user-0") is None
    assert loot.pick(rng, "handle", "user-1") is None
    found = loot.pick(rng, "session", "user-1")
    assert found is not None
    assert (found.owner, found.value) == ("user-0", "a")
