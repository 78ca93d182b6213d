"""The Received field of a submission, and mail that goes round."""

from __future__ import annotations

import re
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest

from postroom.mail.raw import split_raw
from postroom.mail.trace import MOST_HOPS, Arrival, goes_in_circles, mark_of, received_field

INSTANCE = "8f5c1f8e-7f6e-4a52-9d1c-27e1b0f2a001"
MESSAGE = "0b0f9f3e-2c1d-4e5f-8a6b-7c8d9e0f1a2b"
AT_US = 1_700_000_000_000_000
PLAIN = Arrival("mail.example.com", INSTANCE, secure=False)


def test_the_field_says_who_took_it_how_and_when() -> None:
    field = received_field(PLAIN, MESSAGE, AT_US)
    assert field == (
        f"Received: by mail.example.com (Postroom {mark_of(INSTANCE)})\r\n"
        f"\twith ESMTPA id {MESSAGE};\r\n"
        "\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )
    assert parsedate_to_datetime(field.rpartition(";")[2].strip()).timestamp() == AT_US / 1_000_000
    assert INSTANCE not in field


@pytest.mark.parametrize(
    ("secure", "utf8", "word"),
    [
        (False, False, "ESMTPA"),
        (True, False, "ESMTPSA"),
        (False, True, "UTF8SMTPA"),
        (True, True, "UTF8SMTPSA"),
    ],
)
def test_the_protocol_has_its_registered_name(secure: bool, utf8: bool, word: str) -> None:
    field = received_field(replace(PLAIN, secure=secure, utf8=utf8), MESSAGE, AT_US)
    assert re.search(r"with (\S+) id", field)[1] == word  # type: ignore[index]  # it is there


@pytest.mark.parametrize(
    ("client", "name", "clause"),
    [
        ("192.0.2.7", "app.example.com", "from app.example.com ([192.0.2.7])"),
        ("192.0.2.7", "[IPv6:::1]", "from [192.0.2.7] ([192.0.2.7])"),
        ("192.0.2.7", "x) by evil (y\r\nBcc: z", "from [192.0.2.7] ([192.0.2.7])"),
        ("2001:db8::7", "a" * 300, "from [IPv6:2001:db8::7] ([IPv6:2001:db8::7])"),
        ("fe80::1%eth0", "", "from [IPv6:fe80::1] ([IPv6:fe80::1])"),
    ],
)
def test_the_client_is_told_only_where_asked_for(client: str, name: str, clause: str) -> None:
    told = received_field(replace(PLAIN, client=client, client_name=name), MESSAGE, AT_US)
    assert told.startswith(f"Received: {clause}\r\n\tby mail.example.com (")
    assert "from" not in received_field(replace(PLAIN, client_name=name), MESSAGE, AT_US)


def circles(raw: bytes) -> str:
    return goes_in_circles(split_raw(raw)[0], INSTANCE)


def test_l3_our_own_mark_twice_is_a_loop() -> None:
    ours = received_field(PLAIN, MESSAGE, AT_US).encode()
    others = received_field(replace(PLAIN, instance="another"), MESSAGE, AT_US).encode()
    refolded = ours.replace(b" (Postroom ", b"\r\n  (Postroom\r\n ").replace(b")\r\n\twith", b") with")
    assert circles(ours + others * 10 + b"From: a@b.de\r\n\r\n" + ours) == ""
    for second in (ours, refolded):
        assert circles(ours + others + second + b"From: a@b.de\r\n\r\n") == "was here 2 times already: a loop"


def test_l3_too_many_hops_are_a_loop() -> None:
    hop = b"Received: by x; date\r\n"
    assert circles(hop * MOST_HOPS + b"From: a@b.de\r\n\r\n" + hop) == ""
    assert circles(hop * (MOST_HOPS + 1)) == "has passed more than 50 servers: a loop"
