"""S15, S16, S19, S20: TLS that is missing, broken, injected into, slow or ancient lets nothing through."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.transports.interface import AuthMethod, Fault, OpenFailed, Outcome, Phase, Result, StartTls
from postroom.transports.smtp import probe
from tests.delivery.transport.speaking import HASTY, Checks, deliver, envelope, open_session, transport
from tests.support.certs import Certs
from tests.support.scripted_smtp import Action, Kind, ScriptedServer, Stage, hang, reply, send

LOGIN: dict[str, Any] = {"auth": AuthMethod.PLAIN, "username": "user", "password": "hunter2!"}
USERS = {"user": "hunter2!"}
OFFERS = ("PIPELINING", "AUTH PLAIN")


async def _fails(server: ScriptedServer, certs: Certs, **changes: object) -> Outcome:
    """Open with a login, and see that neither login nor mail was said to this server."""
    with pytest.raises(OpenFailed) as failed:
        await open_session(server, context=certs.client(), **{**LOGIN, **changes})
    await server.until(lambda s: s.open == 0)
    assert not [line for line in server.commands if line.startswith(("AUTH", "MAIL"))]
    outcome = failed.value.outcome
    assert (outcome.result, outcome.fault) == (Result.RETURNED, Fault.CONNECTION)
    return outcome


@pytest.mark.parametrize("starttls", [StartTls.REQUIRED, StartTls.OFFERED])
async def test_starttls(starttls: StartTls, certs: Certs) -> None:
    async with ScriptedServer(tls=certs.server(), users=USERS, extensions=OFFERS) as server:
        outcome, _ = await deliver(server, context=certs.client(), starttls=starttls, **LOGIN)
    assert outcome.result is Result.SENT
    assert server.messages[0].tls.startswith("TLSv1.")
    assert server.messages[0].login == ("PLAIN", "user")
    assert server.met.count(Stage.EHLO2) == 1


async def test_implicit_tls(certs: Certs) -> None:
    async with ScriptedServer(tls=certs.server(), implicit=True, users=USERS, extensions=OFFERS) as server:
        outcome, _ = await deliver(server, context=certs.client(), starttls=StartTls.IMPLICIT, **LOGIN)
    assert outcome.result is Result.SENT
    assert server.messages[0].tls.startswith("TLSv1.")


async def test_a_large_message_over_tls_arrives_whole(certs: Certs) -> None:
    content = b"Subject: large\r\n\r\n" + b"".join(b".line %d\r\n" % n for n in range(30_000))
    async with ScriptedServer(tls=certs.server(), receive_buffer=8192) as server:
        outcome, _ = await deliver(
            server, envelope(content), context=certs.client(), starttls=StartTls.REQUIRED
        )
    assert outcome.result is Result.SENT
    assert server.messages[0].data == content


async def test_s15_starttls_not_offered(certs: Certs) -> None:
    async with ScriptedServer(extensions=OFFERS, users=USERS) as server:
        outcome = await _fails(server, certs, starttls=StartTls.REQUIRED)
    assert outcome.phase is Phase.TLS
    assert "does not offer" in outcome.text


@pytest.mark.parametrize("starttls", [StartTls.REQUIRED, StartTls.OFFERED])
async def test_s15_starttls_answered_454(starttls: StartTls, certs: Certs) -> None:
    script = {Stage.STARTTLS: reply("454 4.7.0 TLS not available")}
    async with ScriptedServer(script, tls=certs.server(), extensions=OFFERS, users=USERS) as server:
        outcome = await _fails(server, certs, starttls=starttls)
    assert (outcome.phase, outcome.code) == (Phase.TLS, 454)


BROKEN = [
    ("expired", "expired"),
    ("wrong_name", "mismatch"),
    ("untrusted", "certificate"),
]


@pytest.mark.parametrize("starttls", [StartTls.REQUIRED, StartTls.OFFERED, StartTls.IMPLICIT])
@pytest.mark.parametrize(("kind", "text"), BROKEN)
async def test_s15_bad_certificates(kind: str, text: str, starttls: StartTls, certs: Certs) -> None:
    context = getattr(certs, kind)()
    implicit = starttls is StartTls.IMPLICIT
    async with ScriptedServer(tls=context, implicit=implicit, extensions=OFFERS, users=USERS) as server:
        outcome = await _fails(server, certs, starttls=starttls)
    assert outcome.phase is Phase.TLS
    assert "certificate is not accepted" in outcome.text
    assert text in outcome.text.lower()


async def test_a_certificate_is_not_judged_where_its_owner_says_so(certs: Certs) -> None:
    async with ScriptedServer(tls=certs.untrusted(), extensions=OFFERS, users=USERS) as server:
        outcome, _ = await deliver(server, starttls=StartTls.REQUIRED, verify_tls=False, **LOGIN)
    assert outcome.result is Result.SENT
    assert server.messages[0].tls


async def test_without_an_own_context_the_systems_trust_store_counts(certs: Certs) -> None:
    async with ScriptedServer(tls=certs.server(), extensions=OFFERS, users=USERS) as server:
        with pytest.raises(OpenFailed) as failed:
            await open_session(server, starttls=StartTls.REQUIRED, **LOGIN)
    assert failed.value.outcome.phase is Phase.TLS


INJECTED = [
    ("a reply", send(b"220 ready\r\n250-evil\r\n250 AUTH LOGIN\r\n")),
    ("half a reply", send(b"220 ready\r\n250-ev")),
    ("no reply", send(b"220 ready\r\n\x16\x03garbage\r\n")),
]


@pytest.mark.parametrize("action", [a for _, a in INJECTED], ids=[name for name, _ in INJECTED])
async def test_s16_clear_text_after_the_220(action: Action, certs: Certs) -> None:
    script = {Stage.STARTTLS: action}
    async with ScriptedServer(script, tls=certs.server(), extensions=OFFERS, users=USERS) as server:
        outcome = await _fails(server, certs, starttls=StartTls.REQUIRED)
    assert outcome.phase is Phase.TLS
    assert Stage.EHLO2 not in server.met


@pytest.mark.parametrize("kind", [Kind.DROP, Kind.RESET])
@pytest.mark.parametrize("starttls", [StartTls.REQUIRED, StartTls.IMPLICIT])
async def test_a_connection_lost_in_the_handshake(starttls: StartTls, kind: Kind, certs: Certs) -> None:
    script = {Stage.HANDSHAKE: Action(kind)}
    implicit = starttls is StartTls.IMPLICIT
    async with ScriptedServer(script, tls=certs.server(), implicit=implicit, extensions=OFFERS) as server:
        outcome = await _fails(server, certs, starttls=starttls)
    assert outcome.phase is Phase.TLS


@pytest.mark.parametrize("starttls", [StartTls.REQUIRED, StartTls.IMPLICIT])
async def test_s19_a_handshake_that_never_ends(starttls: StartTls, certs: Certs) -> None:
    implicit = starttls is StartTls.IMPLICIT
    script = {Stage.HANDSHAKE: hang()}
    async with ScriptedServer(script, tls=certs.server(), implicit=implicit, extensions=OFFERS) as server:
        outcome = await _fails(server, certs, starttls=starttls, timeouts=HASTY)
    assert outcome.phase is Phase.TLS
    assert "in time" in outcome.text


async def test_s20_tls_1_0_is_refused(certs: Certs) -> None:
    async with ScriptedServer(tls=certs.ancient(), extensions=OFFERS, users=USERS) as server:
        outcome = await _fails(server, certs, starttls=StartTls.REQUIRED)
        assert outcome.phase is Phase.TLS
        # The server is fine for who wants it: only the version stood between us.
        old, _ = await deliver(server, context=certs.ancient_client(), starttls=StartTls.REQUIRED)
    assert old.result is Result.SENT
    assert server.messages[0].tls == "TLSv1"


async def test_probe_says_what_it_found(certs: Certs) -> None:
    async with ScriptedServer(tls=certs.server(), extensions=OFFERS, users=USERS) as server:
        good = transport(server, context=certs.client(), starttls=StartTls.REQUIRED, **LOGIN)
        outcome = await probe(good)
        assert (outcome.result, outcome.phase) == (Result.SENT, Phase.DONE)
        assert outcome.text in (
            "connected, TLSv1.3, logged in with plain",
            "connected, TLSv1.2, logged in with plain",
        )
        wrong = {**LOGIN, "password": "wrong"}
        bad = transport(server, context=certs.client(), starttls=StartTls.REQUIRED, **wrong)
        outcome = await probe(bad)
    assert (outcome.result, outcome.fault, outcome.phase) == (Result.RETURNED, Fault.LOGIN, Phase.AUTH)
    assert server.commands[-1] != "QUIT"
    assert not server.transactions


async def test_a_session_after_tls_goes_by_what_was_offered_inside(certs: Certs) -> None:
    async with ScriptedServer(
        tls=certs.server(), extensions=("PIPELINING", "SIZE 10"), extensions_after_tls=("SIZE 0",)
    ) as server:
        session = await open_session(server, context=certs.client(), starttls=StartTls.REQUIRED)
        assert (await session.deliver(envelope(), Checks())).result is Result.SENT
        await session.close()
    assert server.messages
