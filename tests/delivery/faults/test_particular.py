"""Troubles that fit no cell of the matrix: broken TLS, 354 in spite of a refusal, stale sessions, what a
server cannot carry. What is expected of each stands in `table.PARTICULAR`."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from postroom.core.message import DeliveryState, Purpose
from postroom.ids import ConnectionId
from postroom.transports.interface import Phase, StartTls
from tests.delivery.faults import play
from tests.delivery.faults.table import ANSWERS, PARTICULAR
from tests.support.certs import Certs
from tests.support.fault_bench import LOGIN, PATIENT, SOON_S, STILL, USERS, FaultBench, fault_bench
from tests.support.scripted_smtp import (
    Kind,
    Script,
    ScriptedServer,
    Stage,
    drop,
    hang,
    ok,
    reply,
    reset,
    send,
)

OURS = Purpose.TRANSACTIONAL
ONE_SESSION = replace(STILL, sessions_per_connection=1)
HANDSHAKES: dict[str, Script] = {
    "dropped in the TLS handshake": {Stage.HANDSHAKE: [drop(), ok()]},
    "reset in the TLS handshake": {Stage.HANDSHAKE: [reset(), ok()]},
    "silent in the TLS handshake": {Stage.HANDSHAKE: [hang(), ok()]},
}
CERTIFICATES: dict[str, Callable[[Certs], object]] = {
    "the certificate has expired": Certs.expired,
    "the certificate is somebody else's": Certs.wrong_name,
    "the certificate's authority is not trusted": Certs.untrusted,
    "nothing newer than TLS 1.0": Certs.ancient,
}


def test_every_case_is_played() -> None:
    played = {*HANDSHAKES, *CERTIFICATES, *REFUSED, *WITHOUT, *STALE, *MISSING}
    assert played == set(PARTICULAR)


async def _door(
    post: FaultBench, server: ScriptedServer, first: ConnectionId, name: str, mend: Callable[[], None]
) -> None:
    """A message to a peer no session comes about with, until it is mended."""
    answer = ANSWERS[PARTICULAR[name]]
    message = await post.mail(OURS, ["first@example.net"])
    await play.until(lambda: play.at_rest(post, first, message))
    play.check(await play.look(post, first, message), answer)
    assert Stage.AUTH not in server.met
    assert not server.transactions
    mend()
    assert await play.pass_time(post, first, message) is answer.ends
    assert play.copies(server, "first@example.net") == answer.copies
    await play.check_it_works(post, first, OURS)
    play.check_no_clear_login(server)


@pytest.mark.parametrize("starttls", [StartTls.REQUIRED, StartTls.OFFERED, StartTls.IMPLICIT])
@pytest.mark.parametrize("name", [*CERTIFICATES, *HANDSHAKES])
async def test_broken_tls(
    name: str, starttls: StartTls, certs: Certs, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    broken: Any = CERTIFICATES.get(name, Certs.server)(certs)
    server = ScriptedServer(
        HANDSHAKES.get(name),
        tls=broken,
        implicit=starttls is StartTls.IMPLICIT,
        users=USERS,
        extensions=LOGIN,
    )
    timeouts = replace(PATIENT, command_s=SOON_S) if "silent" in name else PATIENT
    async with server, fault_bench(tmp_path) as post:
        first = await post.way_out(server, context=trust, starttls=starttls, timeouts=timeouts)

        def mend() -> None:
            server.tls = certs.server()

        await _door(post, server, first, name, mend)


MISSING = ("TLS is required and not offered", "the login's method is not offered")


@pytest.mark.parametrize("name", MISSING)
async def test_what_is_not_offered(name: str, certs: Certs, trust: ssl.SSLContext, tmp_path: Path) -> None:
    with_tls = "login" in name
    server = ScriptedServer(
        tls=certs.server() if with_tls else None,
        users=USERS,
        extensions=LOGIN,
        extensions_after_tls=("PIPELINING", "AUTH CRAM-MD5 LOGIN"),
    )
    async with server, fault_bench(tmp_path) as post:
        first = await post.way_out(server, context=trust, starttls=StartTls.REQUIRED)

        def mend() -> None:
            server.tls = certs.server()
            server.extensions_after_tls = LOGIN

        await _door(post, server, first, name, mend)


REFUSED: dict[str, tuple[Script, Phase]] = {
    "refused at MAIL for want of a login (530)": (
        {Stage.MAIL: [reply("530 5.7.0 authentication required"), ok()]},
        Phase.MAIL,
    ),
    "refused at RCPT, and DATA answered 354 all the same": (
        {Stage.RCPT: [reply("550 5.1.1 no such user"), ok()], Stage.DATA: [reply("354 go ahead"), ok()]},
        Phase.RCPT,
    ),
    "refused at MAIL, and DATA answered 354 all the same": (
        {Stage.MAIL: [reply("550 5.1.1 no such user"), ok()], Stage.DATA: [reply("354 go ahead"), ok()]},
        Phase.MAIL,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name: str, certs: Certs, tmp_path: Path) -> None:
    script, phase = REFUSED[name]
    answer = ANSWERS[PARTICULAR[name]]
    async with ScriptedServer(script) as server, fault_bench(tmp_path) as post:
        first = await post.way_out(server)
        message = await post.mail(OURS, ["first@example.net"])
        await play.until(lambda: play.at_rest(post, first, message))
        play.check(await play.look(post, first, message), answer, phase)
        assert not any(one.complete or one.data for one in server.transactions)
        assert await play.pass_time(post, first, message) is answer.ends
        assert play.copies(server, "first@example.net") == answer.copies
        await play.check_it_works(post, first, OURS)


EIGHT_BIT = "From: shop@example.com\r\nSubject: x\r\n\r\ngrün\r\n".encode()
WITHOUT: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "SMTPUTF8 is needed and not offered": (("PIPELINING", "8BITMIME"), "grün@example.net", {}),
    "8BITMIME is needed and not offered": (
        ("PIPELINING", "SMTPUTF8"),
        "first@example.net",
        {"raw": EIGHT_BIT},
    ),
    "larger than the server's SIZE": (
        ("PIPELINING", "SIZE 5000"),
        "first@example.net",
        {"text": "x\n" * 5000},
    ),
}


@pytest.mark.parametrize("name", WITHOUT)
async def test_what_a_server_cannot_carry(name: str, tmp_path: Path) -> None:
    words, recipient, fields = WITHOUT[name]
    answer = ANSWERS[PARTICULAR[name]]
    async with ScriptedServer(extensions=words) as server, fault_bench(tmp_path) as post:
        first = await post.way_out(server)
        message = await post.mail(OURS, [recipient], **fields)
        await play.until(lambda: play.at_rest(post, first, message))
        play.check(await play.look(post, first, message), answer, Phase.MAIL)
        assert not server.transactions, "something was said about a message that cannot be sent"
        await play.check_it_works(post, first, OURS)
        # The same mail is no trouble for a server that has the word.
        server.extensions = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 0")
        post.time.advance(61.0)
        await server.until(lambda s: s.open == 0)
        again = await post.mail(OURS, [recipient], **fields)
        await play.until(lambda: play.at_rest(post, first, again))
        assert await play.state_of(post, again) is DeliveryState.SENT


STALE: dict[str, tuple[Script, int]] = {  # the script, and how many sessions there may be
    "a reused session is dropped at MAIL": ({Stage.MAIL: [ok(), drop(), ok()]}, 1),
    "a reused session says 421 and closes while idle": (
        {
            Stage.AFTER_DOT: [
                send(b"250 2.0.0 Ok\r\n", b"421 4.4.2 idle for too long\r\n", then=Kind.DROP),
                ok(),
            ]
        },
        1,
    ),
    "a spare session is closed before its first use": ({Stage.MAIL: [ok(), drop(), ok()]}, 2),
}


@pytest.mark.parametrize("name", STALE)
async def test_a_stale_session_is_replaced_silently(name: str, tmp_path: Path) -> None:
    script, sessions = STALE[name]
    settings = ONE_SESSION if sessions == 1 else STILL
    async with ScriptedServer(script) as server, fault_bench(tmp_path, settings) as post:
        first = await post.way_out(server)
        earlier = await post.mail(OURS, ["earlier@example.net"])
        await play.until(lambda: play.at_rest(post, first, earlier))
        await server.until(lambda s: s.connections == sessions)
        await play.until(lambda: _waiting(post, first, sessions))
        post.time.advance(5.0)
        message = await post.mail(OURS, ["first@example.net"])
        await play.until(lambda: play.at_rest(post, first, message))
        seen = await play.look(post, first, message)
        play.check(seen, ANSWERS[PARTICULAR[name]], Phase.DONE, before=1)
        assert server.connections == sessions + 1
        assert play.copies(server, "first@example.net") == 1
        await play.check_it_works(post, first, OURS)


async def _waiting(post: FaultBench, connection: ConnectionId, sessions: int) -> bool:
    return len(post.runner(connection).sessions._idle) == sessions
