"""Logins: which keys, on which wires, and how wrong ones are answered (S14, S28)."""

from __future__ import annotations

import hmac
import logging
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from postroom.actions.keys import revoke_key
from postroom.actions.servers import ServerChanges, update_server
from postroom.core.key import KeyKind, new_key
from postroom.inbound.login_guard import LoginGuard
from postroom.inbound.sasl import Login
from postroom.inbound.submission import ClearAuth, LoginLimits, key_text
from postroom.peers import address_group, is_loopback
from tests.inbound.submission.desk import MAIL, Desk, Dialogue, dialogue, plain, talking
from tests.support.certs import Certs
from tests.support.clock import FakeClock
from tests.support.context import ACTOR

KEY, OTHER = new_key(KeyKind.SERVER).text, new_key(KeyKind.SERVER).text
WRONG = "535 5.7.8 The user name or password is wrong; both are a key of your server"


async def cram(client: Dialogue, user: str, password: str) -> str:
    challenge = await client.say(b"AUTH CRAM-MD5")
    assert challenge[:4] == "334 "
    digest = hmac.new(password.encode(), b64decode(challenge[4:]), "md5").hexdigest()
    return await client.say(b64encode(f"{user} {digest}".encode()))


async def login(client: Dialogue, user: str, password: str) -> str:
    assert await client.say(b"auth login") == "334 " + b64encode(b"Username:").decode()
    assert await client.say(b64encode(user.encode())) == "334 " + b64encode(b"Password:").decode()
    return await client.say(b64encode(password.encode()))


async def test_the_key_is_user_name_and_password(desk: Desk) -> None:
    key = desk.text
    for user, password, fine in [
        (key, key, True),
        (key.upper(), key, True),  # keys are the same in any case
        ("apikey", key, True),
        (key, "apikey", False),
        (key, OTHER, False),
        (OTHER, key, False),
        (key, "", False),
        ("", "", False),
        (OTHER, OTHER, False),
    ]:
        async with dialogue(desk.port) as client:
            await client.greet()
            reply = await client.say(b"AUTH PLAIN " + plain(user, password))
            assert reply[:3] == ("235" if fine else "535"), (user, password)
            reply = await login(client, user, password) if not fine else "535"
            assert reply[:3] == "535"
        async with dialogue(desk.port) as client:
            await client.greet()
            reply = await cram(client, user, password)
            assert reply[:3] == ("235" if user.lower() == password == key else "535"), (user, password)
        desk.clock.advance(3600)


@pytest.mark.parametrize("scopes", [("all",), ("transactionals_write", "subscribers_read")])
async def test_scopes_that_may(desk: Desk, scopes: tuple[str, ...]) -> None:
    _, text = await desk.new_key(*scopes)
    async with dialogue(desk.port) as client:
        await client.log_in(text)
        assert (await client.send())[:3] == "250"


async def test_keys_that_may_not_are_told_why(desk: Desk) -> None:
    _, account = await desk.new_key("all", account=True)
    _, reader = await desk.new_key("transactionals_read", "broadcasts_write")
    async with dialogue(desk.port) as client:
        await client.greet()
        assert "account key" in await client.say(b"AUTH PLAIN " + plain(account, account))
        assert "lacks the scope transactionals_write" in await login(client, reader, reader)
        assert (await client.say(b"MAIL FROM:<shop@example.com>"))[:9] == "530 5.7.0"
        assert (await cram(client, desk.text, desk.text))[:3] == "235"


async def test_a_revoked_key_ends_what_it_began(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        assert (await client.send())[:3] == "250"
        await revoke_key(desk.ctx, ACTOR, desk.owner, desk.key.key_id)
        assert await client.send() == "550 5.7.1 The key of this session was revoked"
    async with dialogue(desk.port) as client:
        await client.greet()
        assert await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text)) == WRONG
    assert len(await desk.stored()) == 1


async def test_a_server_with_smtp_switched_off_takes_nothing(desk: Desk) -> None:
    assert desk.owner.server_id is not None
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        assert (await client.send())[:3] == "250"
        off = ServerChanges(smtp_enabled=False)
        await update_server(desk.ctx, ACTOR, desk.owner, desk.owner.server_id, off)
        refused = "Submission by SMTP is switched off for this server"
        assert await client.send() == f"550 5.7.1 {refused}"
        async with dialogue(desk.port) as other:
            await other.greet()
            assert await other.say(b"AUTH PLAIN " + plain(desk.text, desk.text)) == f"535 5.7.8 {refused}"
            assert await cram(other, desk.text, desk.text) == f"535 5.7.8 {refused}"
            assert (await other.say(b"MAIL FROM:<shop@example.com>"))[:9] == "530 5.7.0"
        on = ServerChanges(smtp_enabled=True)
        await update_server(desk.ctx, ACTOR, desk.owner, desk.owner.server_id, on)
        assert (await client.send())[:3] == "250"
    assert len(await desk.stored()) == 2


async def test_s14_no_login_in_clear_text(tmp_path: Path, certs: Certs) -> None:
    async with talking(tmp_path, tls=certs.server(), clear_auth=ClearAuth.NEVER) as (desk, client):
        await client.reply()
        client.writer.write(b"EHLO me\r\n")
        offered = await client.whole_reply()
        assert "250-STARTTLS" in offered
        assert not [line for line in offered if "AUTH" in line]
        for command in (b"AUTH PLAIN " + plain(desk.text, desk.text), b"AUTH CRAM-MD5", b"AUTH"):
            assert (await client.say(command))[:10] == "538 5.7.11"
        for command in (b"MAIL FROM:<shop@example.com>", b"RCPT TO:<b@example.net>", b"DATA"):
            assert (await client.say(command))[:9] == "530 5.7.0"
    async with talking(tmp_path / "b", tls=certs.server(), clear_auth=ClearAuth.ALWAYS) as (desk, client):
        await client.log_in(desk.text)


def test_loopback_is_known_in_every_spelling() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(is_loopback, ["", "128.0.0.1", "::2", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%lo"]))


MALFORMED = [
    (b"!!!", "501"),
    (b64encode(b"no NULs"), "501"),
    (b64encode(b"\0a"), "501"),
    (b64encode(b"\0a\0b\0c"), "501"),
    (b64encode(b"\xff\0\xff\0\xff"), "535"),
    (plain(KEY, KEY, "root"), "535"),
    (b"=", "501"),
    (b"AAAA BBBB", "501"),
    (b"A" * 1_000_000, "500"),
    (b"", "334"),
]


async def test_s28_malformed_logins(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.greet()
        for word, code in MALFORMED:
            assert (await client.say(b"AUTH PLAIN " + word))[:3] == code, word[:100]
            if code == "334":
                assert (await client.say(b"*"))[:9] == "501 5.7.0"
        assert (await client.say(b"AUTH LOGIN"))[:3] == "334"
        assert (await client.say(b"A" * 200_000))[:9] == "500 5.5.6"
        assert (await client.say(b"AUTH CRAM-MD5 AAAA"))[:3] == "501"
        assert (await client.say(b"AUTH CRAM-MD5"))[:3] == "334"
        assert (await client.say(b64encode(b"nodigest")))[:3] == "501"
        assert (await client.say(b"AUTH NTLM"))[:3] == "504"
        assert (await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text)))[:3] == "235"


async def test_s28_acting_for_another_is_refused(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.greet()
        assert await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text, "root")) == WRONG
        assert (await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text, desk.text)))[:3] == "235"


async def test_s28_unknown_and_wrong_look_the_same(tmp_path: Path) -> None:
    async with talking(tmp_path, logins=LoginLimits(refusal_s=0.05, failures=100)) as (desk, client):
        await client.greet()
        for user, password in [(OTHER, OTHER), (desk.text, OTHER), ("nobody", "x"), (desk.text, "x")]:
            for attempt in (login, cram):
                started_s = client.loop_s()
                assert await attempt(client, user, password) == WRONG
                assert 0.049 < client.loop_s() - started_s < 1.0, (user, password)


async def test_s28_guessing_is_cut_off_and_a_right_key_is_not(desk: Desk) -> None:
    for number in range(10):
        async with dialogue(desk.port) as client:
            await client.greet()
            reply = await client.say(b"AUTH PLAIN " + plain("x", f"guess {number}"))
            assert reply[:3] == ("535" if number < 9 else "421")
    async with dialogue(desk.port) as client:
        await client.greet()
        assert (await client.say(b"AUTH PLAIN " + plain("x", "guess")))[:9] == "421 4.7.0"
        assert await client.reply() == ""
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
    desk.clock.advance(601)
    async with dialogue(desk.port) as client:
        await client.greet()
        assert (await client.say(b"AUTH PLAIN " + plain("x", "guess")))[:3] == "535"


async def test_trying_cram_md5_with_another_user_name_is_no_guess(desk: Desk) -> None:
    for _ in range(10):
        desk.server.guard.failed("127.0.0.1")  # somebody else's, at the same address
    for _ in range(15):
        async with dialogue(desk.port) as client:
            await client.greet()
            assert await cram(client, "apikey", desk.text) == WRONG
            assert (await client.say(b"AUTH PLAIN " + plain("apikey", desk.text)))[:3] == "235"


def test_failures_count_by_address() -> None:
    clock = FakeClock()
    guard = LoginGuard(clock, 2, 60.0)
    for address in ("10.0.0.1", "2001:db8::1", "10.0.0.2"):
        guard.failed(address)
    guard.failed("::ffff:10.0.0.1")
    guard.failed("2001:db8::2")
    assert guard.suspects("10.0.0.1")
    assert guard.suspects("2001:db8::3")
    assert not guard.suspects("10.0.0.2")
    assert not guard.suspects("2001:db8:0:1::1")
    clock.advance(61)
    assert not guard.suspects("10.0.0.1")
    for number in range(20_000):
        guard.failed(f"10.1.{number // 250}.{number % 250}")
    assert len(guard._failures) == 10_000
    assert address_group("?") == "?"


def test_what_of_a_login_must_be_a_key() -> None:
    assert key_text(Login("PLAIN", "me", KEY)) == KEY
    assert key_text(Login("LOGIN", KEY, KEY)) == KEY
    assert key_text(Login("PLAIN", KEY, OTHER)) == ""
    assert key_text(Login("PLAIN", "me", KEY, acting_as="you")) == ""
    digest = hmac.new(KEY.encode(), b"c", "md5").hexdigest().upper()
    assert key_text(Login("CRAM-MD5", KEY, challenge=b"c", digest=digest)) == KEY
    assert key_text(Login("CRAM-MD5", KEY, challenge=b"d", digest=digest)) == ""
    assert KEY not in repr(Login("PLAIN", KEY, KEY, digest=KEY, acting_as=KEY))


async def test_no_secret_reaches_the_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {desk.text, OTHER, *(plain(text, text).decode() for text in (desk.text, OTHER))}
    secrets |= {b64encode(text.encode()).decode() for text in (desk.text, OTHER)}
    async with dialogue(desk.port) as client:
        await client.greet()
        await login(client, OTHER, OTHER)
        await client.say(b"AUTH PLAIN")
        await client.say(plain(OTHER, OTHER))
        await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text))
        assert (await client.send(MAIL))[:3] == "250"
    shown = "\n".join(record.getMessage() for record in caplog.records)
    shown += repr(desk.server.__dict__)
    assert not [secret for secret in secrets if secret in shown]


async def test_what_follows_a_refused_login_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with talking(tmp_path, clear_auth=ClearAuth.NEVER) as (desk, client):
        await client.greet()
        client.writer.write(b"AUTH LOGIN\r\n" + b64encode(desk.text.encode()) + b"\r\n")
        assert (await client.reply())[:3] == "538"
        assert await client.reply() == "500 5.5.1 That command is not known here"
    assert not caplog.records
