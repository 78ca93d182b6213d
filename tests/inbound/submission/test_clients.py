"""Real clients: what they send is stored bit by bit and answered with its id, on every kind of wire."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import aiosmtplib
import pytest
import uvloop

from postroom.core.message import DeliveryState, Purpose
from postroom.inbound.submission import ClearAuth
from postroom.mail.compose import compose
from postroom.mail.raw import split_raw
from tests.inbound.submission.desk import MAIL, SENDER, Desk, open_desk
from tests.support.certs import Certs

Wire = Literal["plain", "starttls", "implicit"]


def letter() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Shöp <shop@example.com>"
    message["To"] = "Bo <b@example.net>"
    message["Cc"] = "c@example.net"
    message["Bcc"] = "secret@example.net"
    message["Subject"] = "Grüße"
    message.set_content("häh\n.\n..\n.dot\n", cte="8bit")
    message.add_attachment(bytes(range(256)), maintype="application", subtype="octet-stream")
    message.set_boundary("b1")
    return message


@pytest.fixture(params=["plain", "starttls", "implicit"])
async def wired(
    request: pytest.FixtureRequest, tmp_path: Path, certs: Certs
) -> AsyncIterator[tuple[Desk, Wire]]:
    wire: Wire = request.param
    async with open_desk(
        tmp_path,
        tls=None if wire == "plain" else certs.server(),
        implicit_tls=wire == "implicit",
        clear_auth=ClearAuth.LOOPBACK if wire == "plain" else ClearAuth.NEVER,
    ) as desk:
        yield desk, wire


def with_smtplib(port: int, wire: Wire, tls: ssl.SSLContext, say: Callable[[smtplib.SMTP], None]) -> None:
    if wire == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", port, context=tls, timeout=5)
    else:
        client = smtplib.SMTP("localhost", port, timeout=5)
    with client:
        if wire == "starttls":
            client.ehlo()
            assert not client.has_extn("auth")
            client.starttls(context=tls)
        say(client)


async def test_smtplib_on_every_wire(wired: tuple[Desk, Wire], certs: Certs) -> None:
    desk, wire = wired
    message = letter()

    def say(client: smtplib.SMTP) -> None:
        client.login(desk.text, desk.text)  # takes CRAM-MD5, the first of its own list
        assert (
            client.send_message(message, to_addrs=["b@example.net", "c@example.net", "x@example.net"]) == {}
        )

    await asyncio.to_thread(with_smtplib, desk.port, wire, certs.client(), say)
    (stored,) = await desk.stored()
    del message["Bcc"]  # smtplib does that
    assert stored.raw == message.as_bytes(policy=message.policy.clone(linesep="\r\n"))
    assert (stored.message.purpose, stored.message.stream) == (Purpose.TRANSACTIONAL, "outbound")
    assert (stored.message.origin, await desk.key_ids()) == ("smtp", [desk.key.key_id])
    assert stored.message.options == {"mail_from": SENDER}
    assert (stored.message.sender, stored.message.subject) == (SENDER, "Grüße")
    assert stored.message.server_id == desk.owner.server_id
    assert [(row.recipient, row.kind) for row in stored.deliveries] == [
        ("b@example.net", "to"),
        ("c@example.net", "cc"),
        ("x@example.net", "bcc"),
    ]
    assert {row.state for row in stored.deliveries} == {DeliveryState.CAPTURED}


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram_md5"])
async def test_every_mechanism_of_smtplib(wired: tuple[Desk, Wire], certs: Certs, mechanism: str) -> None:
    desk, wire = wired

    def say(client: smtplib.SMTP) -> None:
        client.ehlo()
        client.user = client.password = desk.text
        method = getattr(client, f"auth_{mechanism}")
        assert client.auth(mechanism.replace("_", "-").upper(), method)[0] == 235
        assert client.sendmail(SENDER, ["b@example.net"], MAIL) == {}

    await asyncio.to_thread(with_smtplib, desk.port, wire, certs.client(), say)
    (stored,) = await desk.stored()
    assert stored.raw == MAIL
    assert ("with ESMTPA id" in stored.content.trace) == (wire == "plain")


@pytest.mark.parametrize("mechanism", ["plain", "login", "crammd5"])
async def test_every_mechanism_of_aiosmtplib(desk: Desk, mechanism: str) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=desk.port, start_tls=False, timeout=5) as client:
        await client.ehlo()
        for feature in ("8bitmime", "smtputf8", "pipelining", "auth", "enhancedstatuscodes"):
            assert client.supports_extension(feature)
        assert client.esmtp_extensions["size"] == str(desk.ctx.limits.max_message_bytes)
        assert not client.supports_extension("starttls")
        reply = await getattr(client, f"auth_{mechanism}")(desk.text, desk.text)
        assert reply.code == 235
        with pytest.raises(aiosmtplib.SMTPAuthenticationError, match="503"):
            await client.auth_plain(desk.text, desk.text)
        _, text = await client.sendmail(SENDER, ["b@example.net"], MAIL)
    (stored,) = await desk.stored()
    assert text == f"2.0.0 Ok: queued as {stored.message.public_id}"
    assert stored.raw == MAIL


async def test_starttls_with_aiosmtplib(tmp_path: Path, certs: Certs) -> None:
    async with (
        open_desk(tmp_path, tls=certs.server()) as desk,
        aiosmtplib.SMTP(
            hostname="localhost", port=desk.port, start_tls=True, tls_context=certs.client(), timeout=5
        ) as client,
    ):
        await client.ehlo()
        assert not client.supports_extension("starttls")
        await client.login(desk.text, desk.text)
        for _ in range(3):
            await client.sendmail(SENDER, ["b@example.net"], MAIL)
        assert [stored.raw for stored in await desk.stored()] == [MAIL] * 3


@pytest.mark.parametrize("wire", ["plain", "starttls", "implicit"])
def test_the_loop_that_serve_runs_on(tmp_path: Path, certs: Certs, wire: Wire) -> None:
    async def run() -> None:
        tls = None if wire == "plain" else certs.server()
        policy = ClearAuth.LOOPBACK if wire == "plain" else ClearAuth.NEVER
        async with open_desk(tmp_path, tls=tls, implicit_tls=wire == "implicit", clear_auth=policy) as desk:

            def say(client: smtplib.SMTP) -> None:
                client.login(desk.text, desk.text)
                client.sendmail(SENDER, ["b@example.net"], MAIL + (b"y" * 990 + b"\r\n") * 3000)

            await asyncio.to_thread(with_smtplib, desk.port, wire, certs.client(), say)
            (stored,) = await desk.stored()
            assert len(stored.raw) == len(MAIL) + 992 * 3000

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_what_leaves_differs_only_by_what_composing_changes(desk: Desk) -> None:
    raw = b"Bcc: hidden@example.net\r\n" + MAIL.replace(
        b"Subject", b"X-Odd :  kept \r\n\tas it is\r\nSUBJECT"
    )
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=desk.port, start_tls=False, timeout=5) as client:
        await client.login(desk.text, desk.text)
        await client.sendmail("", ["b@example.net", "hidden@example.net"], raw)
    (stored,) = await desk.stored()
    assert stored.raw == raw
    sent = compose(stored.content, message_id=stored.message.rfc_message_id, date_us=0)
    assert sent.endswith(raw.removeprefix(b"Bcc: hidden@example.net\r\n"))
    assert b"hidden@example.net" not in sent
    added = sent[: sent.index(b"From: Shop")]
    names = [name for name, _ in split_raw(added)[0]]
    assert names == [b"received", b"date", b"message-id"]
    assert [row.kind for row in stored.deliveries] == ["to", "bcc"]
