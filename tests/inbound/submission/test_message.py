"""What is taken as a message, whose it is, and in which words it is refused (S3-S5, S10, S27, A7, H3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.actions.context import Limits
from postroom.actions.identities import trust
from postroom.actions.servers import delete_server
from postroom.core.message import DeliveryState
from postroom.errors import (
    Conflict,
    Denied,
    Invalid,
    Limited,
    NotFound,
    PostroomError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from postroom.inbound.submission import reply_of
from postroom.inbound.submitted import Looping
from postroom.mail.compose import compose, needs_eight_bit
from postroom.mail.trace import mark_of
from postroom.storage.interface import Sql, Work
from tests.inbound.submission.desk import MAIL, Desk, dialogue, open_desk
from tests.support.context import ACTOR

FROM = b"From: shop@example.com\r\n"


REFUSED = [
    (b"", "554 5.6.0 From is missing in the header"),
    (b"\r\n" + MAIL, "554 5.6.0 From is missing in the header"),
    (b"Subject: x\r\n\r\n" + FROM, "554 5.6.0 From is missing in the header"),
    (b"no field\r\n" + MAIL, "554 5.6.0 From is missing in the header"),
    (FROM + b"from : evil@example.org\r\n\r\n", "554 5.6.0 From must be exactly one header field"),
    (FROM + FROM + b"\r\n", "554 5.6.0 From must be exactly one header field"),
    (b"From: a@example.com, b@example.com, c@example.org\r\n\r\n", "554 5.6.0 From "),
    (b"From: a@example.com,\r\n b@example.com\r\n\r\n", "554 5.6.0 From "),
    (b"From:\r\n\r\n", "554 5.6.0 From can't be blank"),
    (b"From: friends: a@example.com;\r\n\r\n", "554 5.6.0 From "),
    (b"From: shop\r\n\r\n", "554 5.6.0 From "),
    (b"From: a@example.com)b@example.org\r\n\r\n", "554 5.6.0 From "),
    (b'From: "a@example.org x"@example.com\r\n\r\n', "554 5.6.0 From "),
    (b"From: =?utf-8?q?a=0D=0ABcc:_x?= <shop@example.com>\r\n\r\n", "554 5.6.0 From "),
    (b"From: \xff <shop@example.com>\r\n\r\n", "554 5.6.0 From must be ASCII or UTF-8"),
    (FROM + b"Subject: =?utf-8?b?YQ0KQmNjOiB4?=\r\n\r\n", "554 5.6.0 Subject "),
    (MAIL + b"a\0b\r\n", "554 5.6.0 Message must not contain a NUL character"),
    (MAIL + b"x" * 999 + b"\r\n", "554 5.6.0 Message must not have lines longer than 998 bytes"),
    (MAIL + b"x" * 70_000 + b"\r\n", "554 5.6.0 Message must not have lines longer than 998 bytes"),
    (FROM + b"X-Y: z\r\n" * 14_000 + b"\r\n", "554 5.6.0 Message has a header larger than 102400 bytes"),
    (FROM + b"A:\r\n" * 200 + b"\r\n", "554 5.6.0 Message has more than 200 header fields"),
    (b"Received: x\r\n" * 51 + MAIL, "554 5.4.6 Message has passed more than 50 servers: a loop"),
    (MAIL + b"bare\nLF\r\n", "554 5.6.11 A bare CR or LF"),
    (MAIL.replace(b"Hello", b"He\rllo"), "554 5.6.11 A bare CR or LF"),
    (b"From: ceo@rival.example\r\n\r\n", "550 5.7.1 Nobody has vouched for the sender ceo@rival.example"),
    (b"From: shop@sub.example.com\r\n\r\n", "550 5.7.1 Nobody has vouched"),
]
TAKEN = [
    FROM + b"\r\n",
    FROM,
    FROM + b"\r\n" + b"x" * 998 + b"\r\n" + b"y" * 998 + b"\r\n\r\n\r\n",
    b"From:\r\n shop@example.com\r\n\r\n",
    b"From: Gr\xc3\xbc\xc3\x9fe <shop@EXAMPLE.com>\r\n\r\n",
    FROM + b"not a field\r\nFrom: evil@example.org\r\n\r\n",
    FROM + b"Subject: caf\xe9\r\n\r\n\xff\xfe\x80 8-bit without 8BITMIME\r\n",
    FROM + b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\nepilogue \r\n",
    FROM + b'To: undisclosed-recipients:;\r\nCc: <broken, "x\r\n\r\n',
]


async def test_refused_after_the_dot_and_the_session_lives(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for content, reply in REFUSED:
            assert (await client.send(content)).startswith(reply), content[:200]
        assert (await client.send())[:3] == "250"
    assert [stored.raw for stored in await desk.stored()] == [MAIL]


async def test_taken_and_kept_as_it_is(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for content in TAKEN:
            assert (await client.send(content))[:3] == "250", content
    assert [stored.raw for stored in await desk.stored()] == TAKEN


async def test_s3_s4_s5_lines_nuls_and_eight_bit_text(desk: Desk) -> None:
    """Bare ends and NUL are refused wherever they stand; 8-bit text stays bit for bit, to the last hop."""
    eight_bit = MAIL + "Grüße \u2014 ".encode() + bytes(range(128, 256)) + b"\r\n"
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for bad in (b"\n", b"\r", b"\0"):
            for content in (MAIL.replace(b"Hello", b"He" + bad + b"llo"), MAIL + b"a" + bad + b"b\r\n"):
                assert (await client.send(content))[:7] == "554 5.6", content
        for mail in (b"MAIL FROM:<shop@example.com>", b"MAIL FROM:<shop@example.com> BODY=8BITMIME"):
            assert (await client.say(mail))[:3] == "250"
            assert (await client.say(b"RCPT TO:<b@example.net>"))[:3] == "250"
            assert (await client.data(eight_bit))[:3] == "250"
    stored = await desk.stored()
    assert [one.raw for one in stored] == [eight_bit] * 2
    for one in stored:
        sent = compose(one.content, message_id=one.message.rfc_message_id, date_us=0)
        assert sent.endswith(eight_bit)
        assert needs_eight_bit(one.content), "so that a next hop without 8BITMIME is not given it"


async def test_s27_the_from_header_decides_and_mail_from_does_not(desk: Desk) -> None:
    await trust(desk.ctx, ACTOR, "rival.example")  # vouched for everybody
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for sender, header, code in [
            ("", "shop@example.com", "250"),
            ("bounces@elsewhere.example", "shop@example.com", "250"),
            ("shop@example.com", "ceo@elsewhere.example", "550"),
            ("", "ceo@rival.example", "250"),
        ]:
            await client.address(sender)
            assert (await client.data(f"From: {header}\r\n\r\n".encode()))[:3] == code
    kept = [stored.message.options["mail_from"] for stored in await desk.stored()]
    assert kept == ["", "bounces@elsewhere.example", ""]


async def test_s10_recipients_come_from_rcpt_each_once(desk: Desk) -> None:
    content = (
        b"To: Bo <B@example.net>, not@there.example\r\nCc: c@example.net\r\nBcc: d@example.net\r\n" + FROM
    )
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        people = ["b@example.net", "B@EXAMPLE.NET", "c@example.net", "d@example.net", '"b"@example.net']
        assert (await client.send(content, *people))[:3] == "250"
    (stored,) = await desk.stored()
    assert [(row.recipient, row.kind) for row in stored.deliveries] == [
        ("b@example.net", "to"),
        ("c@example.net", "cc"),
        ("d@example.net", "bcc"),
    ]
    assert stored.content.to[0].name == "Bo"


@pytest.mark.parametrize("told", [False, True])
async def test_the_trace_has_our_id_and_tells_of_the_client_only_where_asked(
    tmp_path: Path, told: bool
) -> None:
    async with open_desk(tmp_path, host_name="mx.example.com", instance="one", tell_client=told) as desk:
        async with dialogue(desk.port) as client:
            await client.log_in(desk.text)
            reply = await client.send()
        (stored,) = await desk.stored()
        assert stored.raw == MAIL, "what was handed in stays as it is"
        trace = " ".join(stored.content.trace.split())
        public_id = stored.message.public_id
        came = "from me.example ([127.0.0.1]) " if told else ""
        assert trace.startswith(f"Received: {came}by mx.example.com (Postroom {mark_of('one')}) with ESMTPA ")
        assert f" id {public_id};" in trace
        assert reply.endswith(public_id)


async def test_the_message_id_it_is_sent_under_is_the_one_that_is_stored(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        assert (await client.send(b"Message-ID: <order-1@example.com>\r\n" + MAIL))[:3] == "250"
        assert (await client.send(b"Message-ID: <order-1@example.com>\r\n" + MAIL))[:3] == "250"
        assert (await client.send(b"Message-ID: not one\r\n" + MAIL))[:3] == "250"
        assert (await client.send(b"Message-ID:\r\n" + MAIL))[:3] == "250"
    stored = await desk.stored()
    ids = [one.message.rfc_message_id for one in stored]
    assert ids[:3] == ["<order-1@example.com>"] * 2 + ["not one"]
    assert ids[3] == f"<{stored[3].message.public_id}@example.com>"
    for one in stored:
        sent = compose(one.content, message_id=one.message.rfc_message_id, date_us=0)
        assert sent.count(b"Message-ID: " + one.message.rfc_message_id.encode() + b"\r\n") == 1


@pytest.mark.parametrize("taken", [3, 1000])
async def test_s10_too_many_recipients(tmp_path: Path, taken: int) -> None:
    async with open_desk(tmp_path, limits=Limits(max_recipients=taken)) as desk:
        async with dialogue(desk.port) as client:
            await client.log_in(desk.text)
            assert (await client.say(b"MAIL FROM:<>"))[:3] == "250"
            count = taken + 2
            client.writer.write(b"".join(b"RCPT TO:<r%d@example.net>\r\n" % n for n in range(count)))
            codes = [(await client.reply())[:9] for _ in range(count)]
            assert codes == ["250 2.1.5"] * taken + ["452 4.5.3"] * 2
            assert (await client.data(MAIL))[:3] == "250"
        (stored,) = await desk.stored()
        assert len(stored.deliveries) == taken


async def test_smtputf8_addresses(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        assert (await client.say("MAIL FROM:<grüße@example.com>".encode()))[:9] == "553 5.6.7"
        assert (await client.say("MAIL FROM:<grüße@example.com> SMTPUTF8".encode()))[:3] == "250"
        assert (await client.say("RCPT TO:<bü@münchen.example>".encode()))[:3] == "250"
        assert (await client.data(MAIL))[:3] == "250"
        assert (await client.say(b"MAIL FROM:<shop@example.com>"))[:3] == "250"
        assert (await client.say("RCPT TO:<bü@münchen.example>".encode()))[:9] == "553 5.6.7"
        assert (await client.say(b"RCPT TO:<b@xn--mnchen-3ya.example>"))[:3] == "250"
    (stored,) = await desk.stored()
    assert [row.recipient for row in stored.deliveries] == ["bü@münchen.example"]


async def test_mail_waits_for_a_connection_or_is_refused_in_clear_words(desk: Desk) -> None:
    def connection(transactional: int) -> Work[None]:
        yield Sql(
            "INSERT INTO connections (account_id, server_id, uid, label, vendor, delivery_method, enabled,"
            " for_broadcast, for_sequence, for_transactional, host, port, created_at, updated_at)"
            " VALUES (:account, NULL, :uid, 'out', 'other', 'smtp', 1, 1, 0, :on, 'h', 25, 0, 0)",
            {"account": desk.owner.account_id, "uid": bytes(16), "on": transactional},
        )
        yield Sql("UPDATE accounts SET had_connection = 1")

    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        await desk.ctx.store.write(lambda: connection(0))
        reply = await client.send()
        assert reply.startswith("554 5.7.1 No connection of this server is switched on")

        def switch() -> Work[None]:
            yield Sql("UPDATE connections SET for_transactional = 1")

        await desk.ctx.store.write(switch)
        assert (await client.send())[:3] == "250"
        (stored,) = await desk.stored()
        assert [row.state for row in stored.deliveries] == [DeliveryState.READY]
        await delete_server(desk.ctx, ACTOR, desk.owner, desk.key.server_id or stored.message.server_id)
        assert (await client.send())[:9] == "550 5.7.1"


async def test_a_store_that_cannot_promise_is_no_yes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for error, said in [
            (Unavailable("too much waits to be written"), "451 4.3.0 Too much waits to be written"),
            (RuntimeError("secret detail"), "451 4.3.0 The message could not be stored, try again"),
        ]:

            async def broken(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr(desk.ctx.store, "write", broken)
            assert await client.send() == said
            monkeypatch.undo()
        assert (await client.send())[:3] == "250"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a message could not be stored"
    ]


def test_every_error_has_a_reply() -> None:
    shown = {
        Unauthenticated(): "550 5.7.1 The key of this session was revoked",
        Denied("nobody vouched"): "550 5.7.1 Nobody vouched",
        NotFound("server"): "550 5.7.1 Server not found",
        Conflict("twice"): "451 4.3.0 Twice",
        TooLarge(1000): "552 5.3.4 Larger than the limit of 1000 bytes",
        Limited(3, "too many"): "450 4.7.0 Too many",
        Unavailable("busy"): "451 4.3.0 Busy",
        Invalid("to", "is bad"): "550 5.1.3 To is bad",
        Invalid("cc", "is bad"): "550 5.1.3 Cc is bad",
        Invalid("stream", "is bad"): "554 5.6.0 Stream is bad",
        Invalid("purpose", "is bad"): "554 5.7.1 Is bad",
        Looping("message", "loops"): "554 5.4.6 Message loops",
        PostroomError("odd"): "451 4.3.0 Odd",
    }
    assert {error: reply_of(error) for error in shown} == shown

    def tree(kind: type[PostroomError]) -> Iterator[type[PostroomError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from tree(below)

    ours = {kind for kind in tree(PostroomError) if kind.__module__ == "postroom.errors"}
    assert ours <= {type(error) for error in shown}
