"""Every stage's every trouble, and the outcome that must come of it; with and without PIPELINING."""

from __future__ import annotations

import pytest

from postroom.transports.interface import Fault, OpenFailed, Phase, Result
from tests.delivery.transport.speaking import HASTY, MESSAGE, Checks, deliver, envelope, open_session
from tests.support.scripted_smtp import (
    Action,
    Kind,
    ScriptedServer,
    Stage,
    drop,
    endless,
    garbage,
    hang,
    long_line,
    reply,
    reset,
    send,
    split,
)

SENT, DEFERRED, BOUNCED = Result.SENT, Result.DEFERRED, Result.BOUNCED
RETURNED, UNKNOWN = Result.RETURNED, Result.UNKNOWN
PLAIN = ("8BITMIME", "SIZE 0", "SMTPUTF8")
PIPELINED = (*PLAIN, "PIPELINING")
LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 * 3 + b"\r\n" + (b"y" * 78 + b"\r\n") * 100_000

both = pytest.mark.parametrize("extensions", [PLAIN, PIPELINED], ids=["step by step", "pipelined"])


@both
async def test_an_ordinary_delivery(extensions: tuple[str, ...]) -> None:
    checks = Checks()
    async with ScriptedServer(extensions=extensions) as server:
        outcome, _ = await deliver(server, checks=checks)
    assert (outcome.result, outcome.fault, outcome.phase) == (SENT, Fault.NONE, Phase.DONE)
    assert (outcome.code, outcome.enhanced, outcome.remote_id) == (250, "2.0.0", "T1")
    assert outcome.text == "2.0.0 Ok: queued as T1"
    assert outcome.begun
    assert outcome.session_usable
    assert not outcome.before_mail_reply
    assert checks.asked == ["mail", "data", "dot"]
    assert server.commands[0] == "EHLO client.test"
    assert server.commands[1].startswith("MAIL FROM:<a@here.test> SIZE=")
    assert server.commands[2:] == ["RCPT TO:<b@there.test>", "DATA", "QUIT"]
    assert len(server.messages) == 1


REPLIES = [
    (Stage.MAIL, "451 4.3.0 later", RETURNED, Fault.CONNECTION, Phase.MAIL, True),
    (Stage.MAIL, "421 4.3.2 going down", RETURNED, Fault.CONNECTION, Phase.MAIL, False),
    (Stage.MAIL, "550 5.7.1 not yours", RETURNED, Fault.SENDER, Phase.MAIL, True),
    (Stage.MAIL, "550 5.1.8 bad domain", RETURNED, Fault.SENDER, Phase.MAIL, True),
    (Stage.MAIL, "553 no", RETURNED, Fault.SENDER, Phase.MAIL, True),
    (Stage.MAIL, "550 Sender address rejected", RETURNED, Fault.SENDER, Phase.MAIL, True),
    (Stage.MAIL, "552 5.3.4 too big", BOUNCED, Fault.MESSAGE, Phase.MAIL, True),
    (Stage.MAIL, "530 5.7.0 authenticate first", RETURNED, Fault.LOGIN, Phase.MAIL, False),
    (Stage.MAIL, "503 5.5.1 bad sequence", RETURNED, Fault.CONNECTION, Phase.MAIL, False),
    (Stage.MAIL, "354 what", RETURNED, Fault.CONNECTION, Phase.MAIL, False),
    (Stage.RCPT, "450 4.2.1 greylisted", DEFERRED, Fault.RECIPIENT, Phase.RCPT, True),
    (Stage.RCPT, "550 5.1.1 no such user", BOUNCED, Fault.RECIPIENT, Phase.RCPT, True),
    (Stage.RCPT, "421 4.7.0 enough", RETURNED, Fault.CONNECTION, Phase.RCPT, False),
    (Stage.RCPT, "354 what", RETURNED, Fault.CONNECTION, Phase.RCPT, False),
    (Stage.RCPT, "530 5.7.0 authenticate", RETURNED, Fault.LOGIN, Phase.RCPT, False),
    (Stage.DATA, "451 4.3.0 not now", DEFERRED, Fault.MESSAGE, Phase.DATA, True),
    (Stage.DATA, "554 5.6.0 no", BOUNCED, Fault.MESSAGE, Phase.DATA, True),
    (Stage.DATA, "421 4.3.2 going down", RETURNED, Fault.CONNECTION, Phase.DATA, False),
    (Stage.DATA, "250 ok?", RETURNED, Fault.CONNECTION, Phase.DATA, False),
]


@both
@pytest.mark.parametrize(("stage", "line", "result", "fault", "phase", "usable"), REPLIES)
async def test_a_refusal_before_the_body(
    extensions: tuple[str, ...],
    stage: Stage,
    line: str,
    result: Result,
    fault: Fault,
    phase: Phase,
    usable: bool,
) -> None:
    async with ScriptedServer({stage: reply(line)}, extensions=extensions) as server:
        outcome, _ = await deliver(server)
    assert (outcome.result, outcome.fault, outcome.phase) == (result, fault, phase)
    assert (outcome.code, outcome.text) == (int(line[:3]), line[4:])
    assert outcome.session_usable is usable
    assert not outcome.begun
    assert not outcome.before_mail_reply
    assert not server.messages


AFTER_DOT = [
    ("452 4.3.1 full", DEFERRED, Fault.MESSAGE, Phase.DONE, True),
    ("421 4.3.2 going down", DEFERRED, Fault.CONNECTION, Phase.DONE, False),
    ("554 5.7.1 spam", BOUNCED, Fault.MESSAGE, Phase.DONE, True),
    ("354 more?", UNKNOWN, Fault.CONNECTION, Phase.DOT, False),
]


@pytest.mark.parametrize(("line", "result", "fault", "phase", "usable"), AFTER_DOT)
async def test_the_reply_to_the_dot(
    line: str, result: Result, fault: Fault, phase: Phase, usable: bool
) -> None:
    async with ScriptedServer({Stage.AFTER_DOT: reply(line)}) as server:
        outcome, _ = await deliver(server)
    assert (outcome.result, outcome.fault, outcome.phase) == (result, fault, phase)
    assert (outcome.code, outcome.begun, outcome.session_usable) == (int(line[:3]), True, usable)


SILENCES: list[tuple[str, Action]] = [
    ("hang", hang()),
    ("drop", drop()),
    ("reset", reset()),
    ("garbage", garbage()),
    ("line of 1 MB", long_line()),
    ("endless reply", endless()),
    ("endless line", send(b"250 " + b"x" * 100_000, then=Kind.HANG)),
    ("code 000", reply("000 nothing")),
    ("code 999", reply("999 too much")),
    ("half a reply", reply("250-first", then=Kind.DROP)),
    ("never the last line", reply("250-first", then=Kind.HANG)),
    ("mixed classes", reply("250-first", "550 last")),
]
silent = pytest.mark.parametrize("action", [a for _, a in SILENCES], ids=[name for name, _ in SILENCES])


@both
@silent
@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA])
async def test_no_answer_before_the_body(stage: Stage, action: Action, extensions: tuple[str, ...]) -> None:
    async with ScriptedServer({stage: action}, extensions=extensions) as server:
        outcome, _ = await deliver(server, timeouts=HASTY)
    assert (outcome.result, outcome.fault) == (RETURNED, Fault.CONNECTION)
    if action.kind is not Kind.RESET:  # a reset may take back replies that were sent before it
        assert outcome.phase == Phase(stage.value)
        assert outcome.before_mail_reply is (stage is Stage.MAIL)
    assert not outcome.begun
    assert not outcome.session_usable
    assert 0 < len(outcome.text) <= 1000
    assert not server.messages


@silent
async def test_no_answer_to_the_dot_is_unknown(action: Action) -> None:
    async with ScriptedServer({Stage.AFTER_DOT: action}) as server:
        outcome, _ = await deliver(server, timeouts=HASTY)
    assert (outcome.result, outcome.fault, outcome.phase) == (UNKNOWN, Fault.CONNECTION, Phase.DOT)
    assert outcome.begun
    assert not outcome.session_usable
    assert server.transactions[0].complete


@pytest.mark.parametrize("action", [hang(), drop(), reset()], ids=["hang", "drop", "reset"])
async def test_the_body_stalls_or_breaks(action: Action) -> None:
    checks = Checks()
    async with ScriptedServer({Stage.MID_BODY: action}, receive_buffer=8192) as server:
        outcome, _ = await deliver(server, envelope(LARGE), checks, timeouts=HASTY)
    assert (outcome.result, outcome.fault, outcome.phase) == (RETURNED, Fault.CONNECTION, Phase.BODY)
    assert outcome.begun
    assert not outcome.session_usable
    assert "dot" not in checks.asked
    assert not server.transactions[0].complete


MID_BODY = [
    ("552 5.3.4 too big", BOUNCED, Fault.MESSAGE),
    ("452 4.3.1 full", DEFERRED, Fault.MESSAGE),
    ("421 4.3.2 going down", RETURNED, Fault.CONNECTION),
    ("250 2.0.0 queued already", RETURNED, Fault.CONNECTION),
]


@pytest.mark.parametrize(("line", "result", "fault"), MID_BODY)
async def test_a_reply_in_mid_body(line: str, result: Result, fault: Fault) -> None:
    checks = Checks()
    action = reply(line, then=Kind.HANG)
    async with ScriptedServer({Stage.MID_BODY: action}, receive_buffer=8192) as server:
        outcome, _ = await deliver(server, envelope(LARGE), checks)
    assert (outcome.result, outcome.fault, outcome.phase) == (result, fault, Phase.BODY)
    assert (outcome.begun, outcome.session_usable) == (True, False)
    assert "dot" not in checks.asked
    assert not server.transactions[0].complete


@both
@pytest.mark.parametrize("stage", [Stage.EHLO, Stage.MAIL, Stage.RCPT])
async def test_a_reply_byte_by_byte(stage: Stage, extensions: tuple[str, ...]) -> None:
    line = "250 scripted.test" if stage is Stage.EHLO else "250 2.1.0 ok"
    async with ScriptedServer({stage: split(line)}, extensions=extensions) as server:
        outcome, _ = await deliver(server)
    assert outcome.result is SENT


@both
async def test_one_reply_too_many_is_never_taken_for_the_dots(extensions: tuple[str, ...]) -> None:
    early = reply("354 go ahead", "250 2.0.0 queued already")
    async with ScriptedServer({Stage.DATA: early}, extensions=extensions) as server:
        outcome, _ = await deliver(server)
    assert (outcome.result, outcome.fault, outcome.begun) == (RETURNED, Fault.CONNECTION, False)
    assert not any(t.complete for t in server.transactions)


async def test_a_reply_before_we_asked_breaks_a_session_step_by_step() -> None:
    async with ScriptedServer({Stage.EHLO: reply("250 hello", "250 ok", "250 ok")}) as server:
        session = await open_session(server)
        outcome = await session.deliver(envelope(), Checks())
        await session.close()
    assert (outcome.result, outcome.before_mail_reply) == (RETURNED, True)
    assert "nobody asked" in outcome.text
    assert not server.transactions


@both
async def test_a_good_reply_counts_whatever_follows_it(extensions: tuple[str, ...]) -> None:
    action = send(b"250 2.0.0 Ok: queued as GOOD\r\n\x00garbage\r\n", then=Kind.RESET)
    async with ScriptedServer({Stage.AFTER_DOT: action}, extensions=extensions) as server:
        session = await open_session(server)
        outcome = await session.deliver(envelope(), Checks())
        await session.close()
    assert (outcome.result, outcome.remote_id) == (SENT, "GOOD")


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT])
async def test_354_although_refused_cuts_the_connection(stage: Stage) -> None:
    script = {stage: reply("550 5.1.1 no such user"), Stage.DATA: reply("354 go ahead")}
    async with ScriptedServer(script) as server:
        outcome, _ = await deliver(server)
    assert outcome.result is BOUNCED
    assert outcome.code == 550
    assert not outcome.begun
    assert not outcome.session_usable
    assert not any(t.complete or t.data for t in server.transactions)


async def test_a_refusal_stands_when_the_rest_of_the_group_is_never_answered() -> None:
    script = {Stage.RCPT: reply("550 5.1.1 no such user", then=Kind.DROP)}
    async with ScriptedServer(script) as server:
        outcome, _ = await deliver(server)
    assert (outcome.result, outcome.fault, outcome.session_usable) == (BOUNCED, Fault.RECIPIENT, False)


@both
@pytest.mark.parametrize(("stop_at", "phase"), [("mail", Phase.MAIL), ("data", Phase.DATA)])
async def test_a_checkpoint_stops_before_the_body(
    stop_at: str, phase: Phase, extensions: tuple[str, ...]
) -> None:
    async with ScriptedServer(extensions=extensions) as server:
        session = await open_session(server)
        outcome = await session.deliver(envelope(), Checks(stop_at))
        again = await session.deliver(envelope(), Checks())
        await session.close()
    assert (outcome.result, outcome.fault, outcome.phase) == (RETURNED, Fault.OURS, phase)
    assert (outcome.begun, outcome.session_usable) == (False, True)
    assert again.result is SENT
    assert len(server.messages) == 1
    if stop_at == "mail" or "PIPELINING" in extensions:
        assert len(server.transactions) == 1, "MAIL was written although it was forbidden"


@pytest.mark.parametrize("content", [b"Subject: small\r\n\r\nsmall\r\n", LARGE], ids=["small", "large"])
async def test_a_checkpoint_stops_before_the_dot(content: bytes) -> None:
    async with ScriptedServer() as server:
        outcome, _ = await deliver(server, envelope(content), Checks("dot"))
        await server.until(lambda s: s.open == 0)
    assert (outcome.result, outcome.fault, outcome.phase) == (RETURNED, Fault.OURS, Phase.BODY)
    assert (outcome.begun, outcome.session_usable) == (True, False)
    assert not server.transactions[0].complete
    assert len(server.transactions[0].data) < len(content)


CANNOT = [
    ({"utf8": True}, ("8BITMIME",), "SMTPUTF8", "5.6.7"),
    ({"recipient": "ü@there.test"}, ("8BITMIME",), "SMTPUTF8", "5.6.7"),
    ({"eight_bit": True}, ("SMTPUTF8",), "8BITMIME", "5.6.3"),
    ({"content": "Subject: x\r\n\r\nü\r\n".encode()}, (), "8BITMIME", "5.6.3"),
    ({"content": b"x: y\r\n\r\n" + b"z" * 100 + b"\r\n"}, ("SIZE 100",), "at most 100", "5.3.4"),
    ({"content": b"x: y\r\n\r\na\n.\r\nb\r\n"}, (), "not CRLF", "5.6.0"),
    ({"content": b"x: y\r\n\r\na\r.\r\nb\r\n"}, (), "not CRLF", "5.6.0"),
    ({"recipient": "b@there.test>\r\nRCPT TO:<c@there.test"}, (), "cannot be written", "5.1.3"),
    ({"recipient": "b@there.test> NOTIFY=NEVER"}, (), "cannot be written", "5.1.3"),
    ({"recipient": '"b"@there.test> NOTIFY=NEVER'}, (), "cannot be written", "5.1.3"),
    ({"sender": "a@here.test\0"}, (), "cannot be written", "5.1.3"),
    ({"recipient": ""}, (), "cannot be written", "5.1.3"),
]


@pytest.mark.parametrize(("changes", "extensions", "text", "enhanced"), CANNOT)
async def test_what_this_server_cannot_carry_bounces_before_mail(
    changes: dict[str, object], extensions: tuple[str, ...], text: str, enhanced: str
) -> None:
    content = changes.pop("content", b"x: y\r\n\r\nz\r\n")
    assert isinstance(content, bytes)
    checks = Checks()
    async with ScriptedServer(extensions=extensions) as server:
        outcome, _ = await deliver(server, envelope(content, **changes), checks)
    assert (outcome.result, outcome.fault, outcome.phase) == (BOUNCED, Fault.MESSAGE, Phase.MAIL)
    assert text in outcome.text
    assert (outcome.enhanced, outcome.begun, outcome.session_usable) == (enhanced, False, True)
    assert not server.transactions
    assert not checks.asked


async def test_parameters_are_only_written_when_they_are_needed() -> None:
    eight = "Subject: x\r\n\r\nü\r\n".encode()
    async with ScriptedServer() as server:
        session = await open_session(server)
        assert (await session.deliver(envelope(sender=""), Checks())).result is SENT
        assert (await session.deliver(envelope(eight), Checks())).result is SENT
        utf8 = envelope(eight, sender="ä@hier.test", recipient='"o d"@there.test')
        assert (await session.deliver(utf8, Checks())).result is SENT
        await session.close()
    assert [t.mail for t in server.transactions] == [
        f"MAIL FROM:<> SIZE={len(MESSAGE)}",
        f"MAIL FROM:<a@here.test> SIZE={len(eight)} BODY=8BITMIME",
        f"MAIL FROM:<ä@hier.test> SIZE={len(eight)} BODY=8BITMIME SMTPUTF8",
    ]
    assert server.transactions[2].recipients == ['"o d"@there.test']
    assert server.transactions[2].data == eight


async def test_a_message_that_cannot_be_composed_is_ours_and_harms_nobody() -> None:
    def broken() -> bytes:
        raise KeyError("the secret name")

    async with ScriptedServer() as server:
        session = await open_session(server)
        what = envelope()
        outcome = await session.deliver(type(what)(what.sender, what.recipient, broken), Checks())
        again = await session.deliver(what, Checks())
        await session.close()
    assert (outcome.result, outcome.fault, outcome.session_usable) == (RETURNED, Fault.OURS, True)
    assert "KeyError" in outcome.text
    assert "secret" not in outcome.text
    assert again.result is SENT


OPENING = [
    (Stage.CONNECT, Phase.BANNER),
    (Stage.BANNER, Phase.BANNER),
    (Stage.EHLO, Phase.EHLO),
]


@silent
@pytest.mark.parametrize(("stage", "phase"), OPENING)
async def test_no_answer_while_opening(stage: Stage, phase: Phase, action: Action) -> None:
    async with ScriptedServer({stage: action}) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, timeouts=HASTY)
        await server.until(lambda s: s.open == 0)
    outcome = failed.value.outcome
    assert (outcome.result, outcome.fault) == (RETURNED, Fault.CONNECTION)
    assert outcome.phase is phase
    assert not outcome.session_usable


@pytest.mark.parametrize("line", ["554 5.7.1 go away", "421 4.3.2 busy", "450 later"])
@pytest.mark.parametrize(("stage", "phase"), [(Stage.BANNER, Phase.BANNER), (Stage.EHLO, Phase.EHLO)])
async def test_a_refusal_while_opening(stage: Stage, phase: Phase, line: str) -> None:
    script = {stage: reply(line), Stage.HELO: reply(line)}
    async with ScriptedServer(script) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server)
    outcome = failed.value.outcome
    assert (outcome.result, outcome.fault, outcome.phase) == (RETURNED, Fault.CONNECTION, phase)
    assert (outcome.code, outcome.text) == (int(line[:3]), line[4:])


async def test_helo_where_ehlo_is_unknown() -> None:
    async with ScriptedServer({Stage.EHLO: reply("502 5.5.1 what?")}) as server:
        outcome, _ = await deliver(server)
    assert outcome.result is SENT
    assert server.commands[:3] == ["EHLO client.test", "HELO client.test", "MAIL FROM:<a@here.test>"]
