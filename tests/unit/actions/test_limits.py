"""Each bound on a message is a setting and holds at every way in, told in that way's own words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace as but

from postroom.actions import identities, keys, servers
from postroom.actions.accept import Submission, accept_message
from postroom.actions.context import Context, Limits
from postroom.actions.servers import ServerChanges
from postroom.config import load
from postroom.control.desk import Desk
from postroom.control.operations import run
from postroom.control.protocol import error_to_json
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.engine.housekeeping import Housekeeping
from postroom.errors import Invalid, PostroomError, TooLarge
from postroom.mail.content import Attachment, Mailbox
from postroom.of_settings import limits_of
from tests.inbound.submission.desk import SENDER, dialogue, open_desk
from tests.support.context import ACTOR, Harness
from tests.support.http import application
from tests.support.stores import on_both

pytestmark = on_both

TIGHT = Limits(max_message_bytes=50_000, max_mail_headers=4, max_mail_header_bytes=1_000, max_recipients=3)


@pytest.fixture
async def shop(ctx: Context, owner: Owner) -> Submission:
    assert owner.server_id is not None
    await identities.trust(ctx, ACTOR, "example.com", owner.account_id)
    changes = ServerChanges(default_sender=SENDER)
    await servers.update_server(ctx, ACTOR, Owner(owner.account_id), owner.server_id, changes)
    return Submission(
        account_id=owner.account_id,
        server_id=owner.server_id,
        purpose=Purpose.TRANSACTIONAL,
        origin="test",
        to=(Mailbox("ann@example.net"),),
        subject="Hello",
        text="Hi",
    )


def test_every_limit_comes_from_its_setting() -> None:
    flags: Mapping[str, str | None] = {
        "max_message_bytes": "5000",
        "max_mail_headers": "4",
        "max_mail_header_bytes": "1024",
        "max_recipients": "3",
        "idempotency_keep": "2h",
    }
    assert limits_of(load(flags, {})) == Limits(5000, 4, 1024, 3, 7200.0)
    assert limits_of(load({}, {})) == Limits()


TOO_MUCH: dict[str, tuple[dict[str, object], type[PostroomError], str]] = {
    "size": ({"text": "x" * 60_000}, TooLarge, "50000 bytes"),
    "size of an attachment as it is written": (
        {"attachments": (Attachment("a.bin", "application/octet-stream", b"\0" * 36_000),)},
        TooLarge,
        "50000 bytes",
    ),
    "headers": ({"headers": [(f"X-{n}", "1") for n in range(5)]}, Invalid, "more than 4 headers"),
    "header bytes": ({"headers": [("X-A", "x" * 1_000)]}, Invalid, "larger than 1000 bytes"),
    "recipients": ({"bcc": [Mailbox(f"r{n}@example.net") for n in range(3)]}, Invalid, "more than 3 recip"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_accept_holds_each(harness: Harness, shop: Submission, name: str) -> None:
    more, kind, text = TOO_MUCH[name]
    tight = replace(harness.ctx, limits=TIGHT)
    with pytest.raises(kind, match=text):
        await accept_message(tight, but(shop, **more))
    just = {
        "text": "x" * 20_000,
        "headers": [(f"X-{n}", "1") for n in range(4)],
        "bcc": [Mailbox("r1@example.net"), Mailbox("r2@example.net")],
    }
    assert await accept_message(tight, but(shop, **just))


async def test_http_says_413(harness: Harness, shop: Submission) -> None:
    tight = replace(harness.ctx, limits=TIGHT)
    _, key = await keys.create_key(tight, ACTOR, Owner(shop.account_id, shop.server_id), "k", ["all"])
    transport = httpx.ASGITransport(application(tight))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        for size, status in ((60_000, 413), (20_000, 201)):
            told = await http.post(
                "/api/v1/transactionals.json",
                headers={"Authorization": f"Bearer {key.reveal()}"},
                json={"to": "ann@example.net", "subject": "s", "body": "x" * size},
            )
            assert told.status_code == status, told.text
            assert "50000 bytes" in told.text or status == 201


def letter(size: int = 10, headers: int = 0, header_size: int = 1) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = SENDER
    for number in range(headers):
        message[f"X-{number}"] = "x" * header_size
    message.set_content("\n".join(["x" * 70] * (size // 71)))
    return message.as_bytes()


async def test_smtp_says_552_452_and_554(tmp_path: Path) -> None:
    limits = replace(TIGHT, max_mail_headers=8)
    async with open_desk(tmp_path / "desk", limits=limits) as desk, dialogue(desk.port) as client:
        await client.log_in(desk.text)
        assert (await client.say(b"MAIL FROM:<shop@example.com> SIZE=50001"))[:9] == "552 5.3.4"
        assert (await client.send(letter(60_000)))[:9] == "552 5.3.4"
        assert (await client.send(letter(headers=20)))[:9] == "554 5.6.0"
        assert (await client.send(letter(headers=2, header_size=700)))[:9] == "554 5.6.0"
        await client.say(b"MAIL FROM:<shop@example.com>")
        told = [await client.say(b"RCPT TO:<r%d@example.net>" % n) for n in range(4)]
        assert [one[:3] for one in told] == ["250", "250", "250", "452"]
        await client.say(b"RSET")
        assert (await client.send(letter(30_000, headers=2)))[:3] == "250"


async def test_the_command_line_says_which(harness: Harness, shop: Submission) -> None:
    async def nothing(*_: object) -> dict[str, object]:
        return {}

    house = Housekeeping(harness.store, harness.clock)
    desk = Desk(replace(harness.ctx, limits=TIGHT), nothing, nothing, lambda: "x", house)
    whose = {"account": shop.account_id, "server": shop.server_id, "subject": "s"}
    for fields, kind, text in (
        ({"to": ["a@example.net"], "text": "x" * 60_000}, "too_large", "50000 bytes"),
        ({"to": [f"r{n}@example.net" for n in range(4)], "text": "x"}, "invalid", "more than 3 recipients"),
    ):
        with pytest.raises(PostroomError) as refused:
            await run(desk, "message.send", {**whose, **fields})
        told = error_to_json(refused.value)
        assert told["kind"] == kind
        assert text in str(told["text"])


async def test_q15_a_hundred_thousand_spellings_of_a_few_addresses(ctx: Context, shop: Submission) -> None:
    """Upper and lower case and the spellings of an international domain are one recipient, a tag is another;
    who stood first decides how it is written. The limit counts what is left."""
    forms = ["Ann@Example.NET", "ann@example.net", "ann@EXAMPLE.net", "Bob@B\u00fccher.example"]
    forms += ["bob@xn--bcher-kva.example", "bob@b\u00fccher\u3002example", "ann+news@example.net"]
    to = [Mailbox(forms[n % len(forms)]) for n in range(100_000)]
    began = time.process_time()
    accepted = await accept_message(ctx, but(shop, to=to))
    assert time.process_time() - began < 5.0
    assert [recipient for _, recipient, _ in accepted.deliveries] == [
        "Ann@Example.NET",
        "Bob@b\u00fccher.example",
        "ann+news@example.net",
    ]
    tight = replace(ctx, limits=Limits(max_recipients=2))
    with pytest.raises(Invalid, match="more than 2 recipients"):
        await accept_message(tight, but(shop, to=to))
