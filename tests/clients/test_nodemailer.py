"""nodemailer's pool: many messages over a few sessions, on every wire and with every login it knows."""

from __future__ import annotations

import asyncio
import email
import email.policy
from pathlib import Path
from typing import Any

import pytest

from postroom.inbound.tls import server_tls
from tests.inbound.submission.desk import SENDER, Desk, open_desk
from tests.support.node import run_node
from tests.support.tools import needs

pytestmark = needs("node")


async def pool(desk: Desk, count: int, **transport: object) -> Any:  # Any: JSON values
    """What became of each message. transport: more of nodemailer's options."""
    login = {"user": desk.text, "pass": desk.text}
    asked = {
        "transport": {"host": "localhost", "port": desk.port, "auth": login, **transport},
        "from": f"Shop <{SENDER}>",
        "count": count,
    }
    return await asyncio.to_thread(run_node, "pool.js", asked)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_a_pool_sends_each_message_once(desk: Desk, mechanism: str) -> None:
    told = await pool(desk, 50, authMethod=mechanism, maxConnections=5, ignoreTLS=True)
    stored = await desk.stored()
    ids = {one.message.public_id for one in stored}
    assert {answer["response"] for answer in told} == {f"250 2.0.0 Ok: queued as {one}" for one in ids}
    assert sorted(one.deliveries[0].recipient for one in stored) == sorted(
        f"ann{number}@example.net" for number in range(50)
    )
    assert {one.message.rfc_message_id for one in stored} == {f"<{n}@pool.example>" for n in range(50)}
    one = stored[0]
    message = email.message_from_bytes(one.raw, policy=email.policy.default)
    number = one.deliveries[0].recipient.removeprefix("ann").partition("@")[0]
    assert one.message.subject == f"Number {number} – Grüße" == message["Subject"]
    (attachment,) = message.iter_attachments()
    assert attachment.get_payload(decode=True) == bytes(range(256))


@pytest.mark.parametrize("implicit", [True, False], ids=["secure", "requireTLS"])
async def test_a_pool_over_tls(tmp_path: Path, implicit: bool) -> None:
    own = await asyncio.to_thread(server_tls, tmp_path / "tls", "localhost")
    async with open_desk(tmp_path, tls=own.context, implicit_tls=implicit) as desk:
        trusted = {"ca": own.certificate.read_text()}
        told = await pool(desk, 10, secure=implicit, requireTLS=not implicit, tls=trusted, maxConnections=2)
        assert [answer["response"][:3] for answer in told] == ["250"] * 10
        assert len(await desk.stored()) == 10
        assert all("with ESMTPSA id" in one.content.trace for one in await desk.stored())
        (refused,) = await pool(desk, 1, secure=implicit, requireTLS=not implicit)
        assert refused["code"] == "ESOCKET", "it does not know the certificate and says so"


@pytest.mark.parametrize("told_before", [{"maxMessages": 4}, {}], ids=["told before", "told by 421"])
async def test_a_pool_lives_with_our_limits(tmp_path: Path, told_before: dict[str, int]) -> None:
    bounds = {"messages_per_session": 4, "sessions_per_address": 2}
    async with open_desk(tmp_path, sessions=bounds) as desk:
        told = await pool(desk, 20, maxConnections=2, **told_before)
        assert [answer.get("response", str(answer))[:3] for answer in told] == ["250"] * 20
        stored = await desk.stored()
        assert len({one.deliveries[0].recipient for one in stored}) == len(stored) == 20
