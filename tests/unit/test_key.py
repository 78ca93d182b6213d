"""API keys: made, folded, recognised, hashed; what a scope allows."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.key import Key, KeyKind, Scope, fold, hash_key, hint_of, looks_like_key, new_key, scopes_of
from postroom.errors import Invalid
from postroom.ids import AccountId, KeyId, ServerId

KEY = "prs_r4it9pw6h48qiq2w6chswdpgx6dxpb9y3asz"  # fixed, so that tests have the same names in every run


def stored(*scopes: str, revoked_at_us: int | None = None) -> Key:
    return Key(
        KeyId(1),
        AccountId(2),
        ServerId(3),
        "shop",
        frozenset(scopes),
        "prs_wxyz",
        5,
        revoked_at_us=revoked_at_us,
    )


@pytest.mark.parametrize(("kind", "prefix"), [(KeyKind.ACCOUNT, "pra_"), (KeyKind.SERVER, "prs_")])
def test_a_new_key_has_its_prefix_and_shape(kind: KeyKind, prefix: str) -> None:
    key = new_key(kind)

    assert re.fullmatch(prefix + "[a-km-np-z2-9]{36}", key.text)
    assert looks_like_key(key.text)
    assert key.hash == hash_key(key.text)
    assert len(key.hash) == 32
    assert key.hint == key.text[:4] + key.text[-4:] == hint_of(key.text)


def test_keys_differ_and_carry_at_least_128_random_bits() -> None:
    keys = [new_key(KeyKind.ACCOUNT).text for _ in range(200)]

    bodies = [key[4:-6] for key in keys]
    assert len(set(bodies)) == 200
    # Every place takes many of the 32 symbols: 26 such places are 130 bits.
    assert sum(len({body[place] for body in bodies}) > 24 for place in range(len(bodies[0]))) >= 26


def test_the_text_of_a_new_key_is_not_in_its_repr() -> None:
    key = new_key(KeyKind.ACCOUNT)

    assert key.text not in repr(key)


@pytest.mark.parametrize("seen", [KEY.upper(), f" {KEY}\r\n", KEY.title(), f"\t{KEY}"])
def test_upper_case_and_white_space_around_are_folded(seen: str) -> None:
    assert fold(seen) == KEY
    assert looks_like_key(seen)
    assert hash_key(seen) == hash_key(KEY)


def test_folding_is_ascii_only() -> None:
    # KELVIN SIGN lower-cases to k by Unicode's rules: it must stay a different text.
    assert fold("prs_\u212a") == "prs_\u212a"
    assert hash_key("prs_\u212a") != hash_key("prs_k")


@given(st.integers(4, len(KEY) - 1), st.sampled_from("abcdefghijkmnpqrstuvwxyz23456789"))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_mistyped_key_is_recognised(place: int, symbol: str) -> None:
    typo = KEY[:place] + symbol + KEY[place + 1 :]

    assert looks_like_key(typo) is (typo == KEY)


def test_two_symbols_swapped_are_recognised() -> None:
    swapped = [KEY[:i] + KEY[i + 1] + KEY[i] + KEY[i + 2 :] for i in range(4, len(KEY) - 1)]

    assert [key for key in swapped if key != KEY and looks_like_key(key)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prs_",
        KEY[:-1],
        KEY + "a",
        "pra_" + KEY[4:],  # the checksum covers the prefix
        "xxx_" + KEY[4:],
        KEY[:10] + "l" + KEY[11:],  # not in the alphabet
        KEY[:10] + "\u0660" + KEY[11:],
        KEY[:10] + "\ud800" + KEY[11:],
        "8779c2b9-97f1-4b0e-9a4c-6f6c5c5fc8b9",
        KEY + " " * 161,
    ],
)
def test_what_is_not_a_key_of_ours_is_refused(text: str) -> None:
    assert not looks_like_key(text)


@given(st.text(max_size=300))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_any_text_is_judged_and_hashed_without_an_error(text: str) -> None:
    assert looks_like_key(text) is False
    assert len(hash_key(text)) == 32


def test_a_huge_text_costs_nothing() -> None:
    huge = KEY + "A" * 50_000_000
    started = time.process_time()

    assert not looks_like_key(huge)
    assert time.process_time() - started < 0.01


def test_scopes_are_a_read_and_a_write_for_each_resource() -> None:
    resources = {
        "subscribers", "broadcasts", "sequences", "segments", "templates", "transactionals", "email_servers",
        "opt_in_forms", "webhook_endpoints", "autopilot", "channel_settings", "file_assets", "users",
    }  # fmt: skip

    assert set(Scope) == {f"{resource}_{way}" for resource in resources for way in ("read", "write")} | {
        "all"
    }
    assert all(scope.name.lower() == scope.value for scope in Scope)


def test_a_key_may_what_its_scopes_say_and_no_more() -> None:
    key = stored("email_servers_read")

    assert key.may(Scope.EMAIL_SERVERS_READ)
    assert key.may("email_servers_read")
    assert not key.may(Scope.EMAIL_SERVERS_WRITE)
    assert not key.may(Scope.ALL)
    assert not stored("email_servers_write").may(Scope.EMAIL_SERVERS_READ)
    assert not stored().may(Scope.USERS_READ)


def test_all_allows_every_scope() -> None:
    assert all(stored("all").may(scope) for scope in Scope)


def test_a_revoked_key_may_nothing() -> None:
    assert not stored("all", revoked_at_us=9).may(Scope.USERS_READ)


def test_scopes_of_takes_known_words_only() -> None:
    assert scopes_of(["users_read", "all", "users_read"]) == {Scope.USERS_READ, Scope.ALL}
    with pytest.raises(Invalid) as caught:
        scopes_of(["users_read", "rockets_launch", "all_"])
    assert [(error.field, error.reason) for error in caught.value.errors] == [
        ("scopes", "has no scope 'all_'"),
        ("scopes", "has no scope 'rockets_launch'"),
    ]
