"""DKIM keys: what is taken, what is refused without repeating it, and the record each stands in DNS with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from postroom.errors import Invalid
from postroom.mail.dkim_keys import (
    Algorithm,
    Published,
    check_selector,
    from_stored,
    new_key,
    public_text,
    published,
    read_pem,
    record_strings,
    record_value,
    to_stored,
    zone_line,
)
from tests.support.dkim_corpus import RSA_PEM, key_of

RSA, ED25519 = Algorithm.RSA, Algorithm.ED25519
PEM = Encoding.PEM, PrivateFormat.PKCS8


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_key_comes_back_as_it_was_stored(algorithm: Algorithm) -> None:
    key = new_key(algorithm)
    assert public_text(from_stored(to_stored(key))) == public_text(key)
    assert public_text(read_pem(key.private_bytes(*PEM, NoEncryption()))) == public_text(key)


def _weak() -> bytes:
    return rsa.generate_private_key(65537, 1024).private_bytes(*PEM, NoEncryption())


def _elliptic() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM, NoEncryption())


def _locked() -> bytes:
    return key_of(RSA).private_bytes(*PEM, BestAvailableEncryption(b"word"))


def _public() -> bytes:
    return key_of(RSA).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _bent() -> bytes:
    """Still base64, and the numbers in it fit no more."""
    lines = RSA_PEM.read_bytes().splitlines()
    lines[10] = lines[10][::-1]
    return b"\n".join(lines)


BROKEN: Mapping[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no key": lambda: b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    "cut off": lambda: RSA_PEM.read_bytes()[:-200],
    "bent": _bent,
    "nul": lambda: bytes(500),
    "weak": _weak,
    "elliptic": _elliptic,
    "encrypted": _locked,
    "public": _public,
    "too large": lambda: RSA_PEM.read_bytes() + b"x" * 20_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_key_is_refused_and_not_repeated(name: str) -> None:
    given = BROKEN[name]()
    with pytest.raises(Invalid) as caught:
        read_pem(given)
    text = str(caught.value)
    assert "private_key" in text
    assert not any(line.decode("latin-1") in text for line in given.splitlines() if len(line) > 20)


@pytest.mark.parametrize("stored", [b"", b"secret", to_stored(key_of(ED25519))[:-1]])
def test_what_was_stored_broken_says_so_and_no_more(stored: bytes) -> None:
    with pytest.raises(ValueError, match="a stored DKIM key is") as caught:
        from_stored(stored)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("selector", ["s1", "S1", "2025-11", "a.b.c", "x" * 63])
def test_a_selector(selector: str) -> None:
    assert check_selector(selector, "example.com") == selector.lower()


@pytest.mark.parametrize(
    "selector",
    [
        *("", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a b", "a;b", "a\r\nb", 'a"b', "ä", "*", "a/b"),
        *("x" * 64, ".".join(["x" * 60] * 4)),
    ],
)
def test_an_odd_selector_is_refused(selector: str) -> None:
    with pytest.raises(Invalid):
        check_selector(selector, "example.com")


def test_the_record_of_an_rsa_key_is_in_strings_of_255() -> None:
    value = record_value(RSA, public_text(key_of(RSA)))
    strings = record_strings(value)
    assert [len(one) for one in strings[:-1]] == [255]
    assert "".join(strings) == value
    assert zone_line("s._domainkey.example.com", value) == (
        f's._domainkey.example.com. IN TXT ( "{strings[0]}" "{strings[1]}" )'
    )


def _is(*records: str) -> Published:
    public = public_text(key_of(ED25519))
    texts = [one.replace("KEY", public).encode() for one in records]
    return published(texts, ED25519, public)


@pytest.mark.parametrize(
    ("records", "what"),
    [
        (["v=DKIM1; k=ed25519; p=KEY"], Published.FOUND),
        (["k=ed25519;p=KEY;"], Published.FOUND),
        (["v=DKIM1; k=ed25519; h=sha1:sha256; s=email; t=y; n=x; p=KEY"], Published.FOUND),
        ([], Published.MISSING),
        (["v=DKIM1; k=rsa; p=KEY"], Published.OTHER),
        (["v=DKIM1; p=KEY"], Published.OTHER),
        (["v=DKIM1; k=ed25519; p=AAAA"], Published.OTHER),
        (["v=DKIM1; k=ed25519; p=KEY", "v=DKIM1; k=rsa; p=AAAA"], Published.SEVERAL),
        (["v=DKIM1; k=ed25519; p="], Published.REVOKED),
        (["v=DKIM2; k=ed25519; p=KEY"], Published.BROKEN),
        (["v=DKIM1; k=ed25519; h=sha1; p=KEY"], Published.BROKEN),
        (["v=DKIM1; k=ed25519; s=tlsrpt; p=KEY"], Published.BROKEN),
        (["v=spf1 -all"], Published.BROKEN),
        (["p=KEY; p=KEY"], Published.BROKEN),
        (["é; p=KEY"], Published.BROKEN),
        ([";" * 60_000], Published.BROKEN),
        ([""], Published.BROKEN),
    ],
)
def test_what_stands_in_dns(records: list[str], what: Published) -> None:
    assert _is(*records) is what


def test_spaces_in_the_key_are_nothing() -> None:
    public = public_text(key_of(RSA))
    spread = " ".join(public[at : at + 60] for at in range(0, len(public), 60))
    assert published([f"v=DKIM1; k=rsa; p={spread}".encode()], RSA, public) is Published.FOUND
