"""mailauth, a verifier of other people in another language, judges what we sign."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from tests.support.dkim_corpus import COUNT, corpus, records, refolded, tampered
from tests.support.node import run_node
from tests.support.tools import needs

pytestmark = needs("node")


def verdicts(messages: Sequence[bytes]) -> list[list[str]]:
    """The results of our signatures on each message: of every domain in `records`."""
    asked = {"records": records(), "messages": [base64.b64encode(one).decode("ascii") for one in messages]}
    told_of_each = run_node("verify.js", asked)
    ours = records()
    return [
        [one["result"] for one in told if f"{one['selector']}._domainkey.{one['domain']}" in ours]
        for told in told_of_each
    ]


def test_mailauth_believes_every_signature() -> None:
    found = verdicts([one.data for one in corpus()])
    assert len(found) == COUNT
    assert [number for number, said in enumerate(found) if said != ["pass", "pass"]] == []


def test_mailauth_believes_them_after_a_relay_folded_the_header_anew() -> None:
    found = verdicts([refolded(one.data) for one in corpus()])
    assert [number for number, said in enumerate(found) if said != ["pass", "pass"]] == []


def test_mailauth_believes_none_of_a_tampered_message() -> None:
    found = verdicts([tampered(one.data, one.number) for one in corpus()])
    assert [number for number, said in enumerate(found) if said and "pass" in said] == []
    assert sum(len(said) for said in found) == 2 * COUNT
