"""S17, S18 and the rest of logging in: the configured method, on a safe channel, or nothing."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from postroom.transports.dialer import Dialer
from postroom.transports.interface import (
    AuthMethod,
    Fault,
    OpenFailed,
    Phase,
    Result,
    SmtpTarget,
    StartTls,
)
from postroom.transports.smtp import SmtpTransport
from tests.delivery.transport.speaking import (
    PATIENT,
    Checks,
    deliver,
    envelope,
    open_session,
    target,
    transport,
)
from tests.support.certs import Certs
from tests.support.scripted_smtp import Kind, ScriptedServer, Stage, reply, send

PASSWORD = 'geheim ü"\\ {pw}'
USERS = {"jörg@here.test": PASSWORD}
LOGIN: Mapping[str, Any] = {"username": "jörg@here.test", "password": PASSWORD}
ALL = ("PIPELINING", "AUTH PLAIN LOGIN CRAM-MD5")


@pytest.mark.parametrize("method", list(AuthMethod))
async def test_each_method(method: AuthMethod) -> None:
    async with ScriptedServer(extensions=ALL, users=USERS) as server:
        outcome, _ = await deliver(server, auth=method, **LOGIN)
    assert outcome.result is Result.SENT
    spoken = AuthMethod.PLAIN if method is AuthMethod.AUTO else method
    assert server.messages[0].login == (spoken.name.replace("_", "-"), "jörg@here.test")


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [("LOGIN CRAM-MD5", "LOGIN"), ("CRAM-MD5 XOAUTH2", "CRAM-MD5"), ("XOAUTH2 PLAIN", "PLAIN")],
)
async def test_auto_takes_the_first_that_is_offered(offered: str, spoken: str) -> None:
    async with ScriptedServer(extensions=("PIPELINING", f"AUTH {offered}"), users=USERS) as server:
        outcome, _ = await deliver(server, auth=AuthMethod.AUTO, **LOGIN)
    assert outcome.result is Result.SENT
    assert server.messages[0].login == (spoken, "jörg@here.test")


async def test_auto_without_any_it_knows_says_what_is_offered() -> None:
    async with ScriptedServer(extensions=("AUTH XOAUTH2",), users=USERS) as server:
        with pytest.raises(OpenFailed, match="does not offer a login we know; it offers XOAUTH2"):
            await open_session(server, auth=AuthMethod.AUTO, **LOGIN)


@pytest.mark.parametrize("method", list(AuthMethod))
async def test_a_wrong_password_is_the_logins_fault(method: AuthMethod) -> None:
    async with ScriptedServer(extensions=ALL, users=USERS) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, auth=method, username="jörg@here.test", password="wrong")
    outcome = failed.value.outcome
    assert (outcome.result, outcome.fault, outcome.phase) == (Result.RETURNED, Fault.LOGIN, Phase.AUTH)
    assert (outcome.code, outcome.enhanced) == (535, "5.7.8")


REFUSALS = [
    ("535 5.7.8 no", Fault.LOGIN),
    ("534 5.7.9 too weak", Fault.LOGIN),
    ("504 5.5.4 unknown", Fault.LOGIN),
    ("454 4.7.0 try later", Fault.CONNECTION),
    ("421 4.3.2 closing", Fault.CONNECTION),
]


@pytest.mark.parametrize(("line", "fault"), REFUSALS)
async def test_whose_fault_a_refused_login_is(line: str, fault: Fault) -> None:
    async with ScriptedServer({Stage.AUTH: reply(line)}, extensions=ALL) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, auth=AuthMethod.PLAIN, **LOGIN)
    outcome = failed.value.outcome
    assert (outcome.fault, outcome.phase, outcome.code) == (fault, Phase.AUTH, int(line[:3]))


async def test_no_login_where_none_is_configured() -> None:
    async with ScriptedServer(extensions=ALL, users=USERS) as server:
        outcome, _ = await deliver(server, auth=None)
    assert outcome.result is Result.SENT
    assert Stage.AUTH not in server.met


async def test_s17_login_offered_only_before_tls(certs: Certs) -> None:
    async with ScriptedServer(
        tls=certs.server(), extensions=ALL, extensions_after_tls=("PIPELINING",), users=USERS
    ) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(
                server, context=certs.client(), starttls=StartTls.REQUIRED, auth=AuthMethod.PLAIN, **LOGIN
            )
    assert (failed.value.outcome.fault, failed.value.outcome.phase) == (Fault.LOGIN, Phase.AUTH)
    assert "no login at all" in failed.value.outcome.text
    assert Stage.AUTH not in server.met


async def test_s17_other_methods_after_tls(certs: Certs) -> None:
    async with ScriptedServer(
        tls=certs.server(), extensions=("AUTH PLAIN",), extensions_after_tls=("AUTH=LOGIN",), users=USERS
    ) as server:
        common: dict[str, Any] = {"context": certs.client(), "starttls": StartTls.REQUIRED, **LOGIN}
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, auth=AuthMethod.PLAIN, **common)
        assert failed.value.outcome.text == "the server does not offer AUTH PLAIN; it offers LOGIN"
        outcome, _ = await deliver(server, auth=AuthMethod.LOGIN, **common)
    assert outcome.result is Result.SENT


@pytest.mark.parametrize("method", list(AuthMethod))
async def test_s18_endless_challenges(method: AuthMethod) -> None:
    challenges = send(b"334 PDEuMkBzPg==\r\n", then=Kind.OK)
    async with ScriptedServer({Stage.AUTH: challenges}, extensions=ALL) as server:
        # Every line after AUTH is answered with another challenge, as if it never ended.
        server.challenge_unknown = True
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, auth=method, **LOGIN)
        await server.until(lambda s: s.open == 0)
    assert failed.value.outcome.fault is Fault.CONNECTION
    assert "keeps asking" in failed.value.outcome.text
    assert len(server.commands) <= 2 + 3


async def test_s18_a_method_that_is_not_configured_is_not_used() -> None:
    async with ScriptedServer(extensions=("AUTH LOGIN PLAIN",), users=USERS) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, auth=AuthMethod.CRAM_MD5, **LOGIN)
    assert failed.value.outcome.text == "the server does not offer AUTH CRAM-MD5; it offers LOGIN, PLAIN"
    assert Stage.AUTH not in server.met


async def test_a_cram_challenge_that_is_not_base64() -> None:
    async with ScriptedServer({Stage.AUTH: reply("334 !!!")}, extensions=ALL) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, auth=AuthMethod.CRAM_MD5, **LOGIN)
    assert "not base64" in failed.value.outcome.text


async def test_a_long_login_waits_for_its_challenge() -> None:
    long = "p" * 500
    async with ScriptedServer(extensions=ALL, users={"u": long}) as server:
        outcome, _ = await deliver(server, auth=AuthMethod.PLAIN, username="u", password=long)
    assert outcome.result is Result.SENT
    assert "AUTH PLAIN" in server.commands


@pytest.mark.parametrize(
    ("username", "password"), [("a\0b", "c"), ("a", "b\0"), ("a\r\nQUIT", "c"), ("a", "b\n"), ("", "b")]
)
async def test_a_login_that_cannot_be_spoken_is_not_dialled(username: str, password: str) -> None:
    async with ScriptedServer(extensions=ALL) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, auth=AuthMethod.PLAIN, username=username, password=password)
    assert (failed.value.outcome.fault, failed.value.outcome.phase) == (Fault.LOGIN, Phase.AUTH)
    assert server.connections == 0


async def test_clear_text_logins_stay_on_the_machine() -> None:
    async with ScriptedServer(extensions=ALL, users=USERS) as server:
        remote = _Elsewhere(server)
        for starttls in (StartTls.NEVER, StartTls.OFFERED):
            where = target(server, auth=AuthMethod.PLAIN, starttls=starttls, **LOGIN)
            with pytest.raises(OpenFailed) as failed:
                await SmtpTransport(where, remote).open()
            assert failed.value.outcome.fault is Fault.CONNECTION
            assert "not sent in clear text" in failed.value.outcome.text
        assert Stage.AUTH not in server.met
        allowed = target(server, auth=AuthMethod.PLAIN, allow_clear_auth=True, **LOGIN)
        session = await SmtpTransport(allowed, remote).open()
        await session.close()
    assert Stage.AUTH in server.met


class _Elsewhere(Dialer):
    """Reaches the server on this machine, and says it is on another."""

    def __init__(self, server: ScriptedServer) -> None:
        super().__init__()
        self._server = server

    async def dial(self, host: str, port: int, purpose: Any, *, timeout_s: float) -> Any:
        sock, peer = await super().dial(host, port, purpose, timeout_s=timeout_s)
        return sock, type(peer)("192.0.2.1", peer.port, loopback=False)


async def test_no_secret_in_texts_reprs_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    encoded = "AGpvZQBodW50ZXIyIQ=="  # \0joe\0hunter2!
    echo = reply(f"535 5.7.8 bad: AUTH PLAIN {encoded} (hunter2!)")
    async with ScriptedServer({Stage.AUTH: echo}, extensions=ALL) as server:
        way = transport(server, auth=AuthMethod.PLAIN, username="joe", password="hunter2!")
        with pytest.raises(OpenFailed) as failed:
            await way.open()
    shown = f"{failed.value} {failed.value!r} {failed.value.outcome} {way!r} {way.target!r} {caplog.text}"
    assert "***" in shown
    assert encoded not in shown
    assert "hunter2" not in shown
    assert "AUTH PLAIN ***" in failed.value.outcome.text


class _Judge:
    """aiosmtpd's own AUTH, as a second opinion on our spelling of it."""

    def __init__(self) -> None:
        self.received: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.received.append(envelope)
        return "250 2.0.0 OK"

    async def auth_CRAM__MD5(self, server: SMTP, args: list[str]) -> Any:
        question = b"<17.4@judge.test>"
        answer = await server.challenge_auth(question)
        if not isinstance(answer, bytes):
            return answer
        user, _, digest = answer.rpartition(b" ")
        good = hmac.new(PASSWORD.encode(), question, "md5").hexdigest().encode() == digest
        return AuthResult(success=good and user.decode() in USERS, handled=False)


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
) -> AuthResult:
    good = isinstance(data, LoginPassword) and USERS.get(data.login.decode()) == data.password.decode()
    return AuthResult(success=good, handled=False)


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
@pytest.mark.parametrize("method", list(AuthMethod))
async def test_each_method_against_aiosmtpd(method: AuthMethod, password: str) -> None:
    judge = _Judge()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: SMTP(judge, hostname="judge.test", authenticator=_authenticate, auth_require_tls=False),
        "127.0.0.1",
        0,
    )
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        where = SmtpTarget(
            host="127.0.0.1",
            port=port,
            starttls=StartTls.NEVER,
            auth=method,
            username="jörg@here.test",
            password=password,
            timeouts=PATIENT,
        )
        way = SmtpTransport(where, Dialer())
        if password == PASSWORD:
            session = await way.open()
            assert (await session.deliver(envelope(), Checks())).result is Result.SENT
            await session.close()
            assert judge.received[0].rcpt_tos == ["b@there.test"]
        else:
            with pytest.raises(OpenFailed) as failed:
                await way.open()
            assert failed.value.outcome.fault is Fault.LOGIN
