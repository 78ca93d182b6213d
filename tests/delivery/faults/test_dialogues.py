"""Random peers: whatever they do, the books balance, everything ends, and nothing is doubled unasked.

Hypothesis writes what each of two peers does at each stage, for as long as its script goes; after that they
work. Time passes only between moments at which nothing more can happen; the books are read all along.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from postroom.core.message import FINAL_STATES, Purpose
from postroom.engine.health import EQUAL_REFUSALS
from postroom.transports.interface import StartTls, Timeouts
from tests.delivery.faults import play
from tests.support.fault_bench import STILL, FaultBench, fault_bench
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
    ok,
    reset,
    send,
)

LINES = [
    b"220 ready\r\n",
    b"250 2.0.0 ok\r\n",
    b"250-2.0.0 more\r\n",
    b"250 PIPELINING\r\n",
    b"354 go ahead\r\n",
    b"334 bW9yZQ==\r\n",
    b"421 4.3.2 going down\r\n",
    b"450 4.2.0 greylisted\r\n",
    b"451 4.3.0 later\r\n",
    b"530 5.7.0 authentication required\r\n",
    b"535 5.7.8 bad login\r\n",
    b"550 5.1.1 no such user\r\n",
    b"553 5.1.8 sender address rejected\r\n",
    b"554 5.7.1 spam\r\n",
    b"\r\n",
    b"25",
    b"\xff\x00\r\n",
]
STAGES = [
    Stage.CONNECT,
    Stage.BANNER,
    Stage.EHLO,
    Stage.HELO,
    Stage.MAIL,
    Stage.RCPT,
    Stage.DATA,
    Stage.MID_BODY,
    Stage.AFTER_DOT,
    Stage.RSET,
    Stage.QUIT,
]
UNASKED = {Stage.CONNECT, Stage.MID_BODY}  # where no reply is due
# A wait that a busy machine cuts short is one more trouble.
BRISK = Timeouts(0.15, 0.15, 0.15, 0.15, 0.15, 0.15, 0.05)
LONG_BODY = "A line of a body that does not go out in one piece.\n" * 4000

PLAIN = {
    "works": ok(),
    "drops": drop(),
    "resets": reset(),
    "garbage": garbage(),
    "long line": long_line(5000),
    "endless": endless(),
    "hangs": hang(),
}


@dataclass(frozen=True)
class Says:
    """These lines, each in a packet of its own, and then this."""

    lines: list[bytes]
    then: Kind


Act = Says | str
says = st.builds(
    Says,
    st.lists(st.sampled_from(LINES), min_size=1, max_size=3),
    st.sampled_from([Kind.OK, Kind.OK, Kind.OK, Kind.DROP, Kind.RESET]),
)
acts = says | says | st.sampled_from(list(PLAIN))
scripts = st.dictionaries(st.sampled_from(STAGES), st.lists(acts, min_size=1, max_size=3), max_size=4)


@dataclass(frozen=True)
class Peer:
    """What one peer does, and how it speaks."""

    script: dict[Stage, list[Act]]
    pipelining: bool

    @property
    def in_step(self) -> bool:
        """It never answers more often than it is asked, so it cannot refuse what it then takes."""
        said = [(stage, act) for stage, acts in self.script.items() for act in acts if isinstance(act, Says)]
        return all(len(act.lines) == 1 and stage not in UNASKED for stage, act in said)


@dataclass(frozen=True)
class Letter:
    """One message to so many recipients."""

    purpose: Purpose
    recipients: int
    long: bool


peers = st.builds(Peer, scripts, st.booleans())
letters = st.builds(
    Letter,
    st.sampled_from([Purpose.TRANSACTIONAL, Purpose.BROADCAST]),
    st.integers(1, 4),
    st.sampled_from([False, False, False, True]),
)


@settings(
    derandomize=True,
    max_examples=40,
    deadline=None,
    phases=[Phase.generate],  # a shorter one would be another race
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(peers, min_size=2, max_size=2), st.lists(letters, min_size=1, max_size=4))
def test_whatever_the_peers_do(two: list[Peer], mail: list[Letter]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(Path(folder), two, mail))


def _action(act: Act) -> Action:
    return PLAIN[act] if isinstance(act, str) else send(*act.lines, then=act.then)


def _server(peer: Peer) -> ScriptedServer:
    words = ("8BITMIME", "SIZE 0", *(["PIPELINING"] if peer.pipelining else []))
    script = {stage: [*map(_action, acts), ok()] for stage, acts in peer.script.items()}
    return ScriptedServer(script, extensions=words)


async def _play(folder: Path, two: list[Peer], mail: list[Letter]) -> None:
    async with (
        _server(two[0]) as one,
        _server(two[1]) as other,
        fault_bench(folder, replace(STILL, sessions_per_connection=3)) as post,
    ):
        for server in (one, other):
            await post.way_out(server, starttls=StartTls.NEVER, timeouts=BRISK)
        for number, letter in enumerate(mail):
            people = [f"r{number}.{n}@example.net" for n in range(letter.recipients)]
            await post.mail(letter.purpose, people, text=LONG_BODY if letter.long else "hello")
        await _run_out(post)
        await _check_the_end(post, [one, other], in_step=all(peer.in_step for peer in two))


async def _run_out(post: FaultBench) -> None:
    """Let everything happen, with time passing in between, until all mail has ended."""
    for step in range(100):
        await play.until(lambda: _quiet(post))
        states = await post.states()
        if set(states) <= FINAL_STATES:
            return
        post.time.advance(61.0 if step % 3 else 1200.0)
        await post.engine.looking.look()
    raise AssertionError(f"not ended: {await post.states()}")


async def _quiet(post: FaultBench) -> bool:
    """Whether nothing more happens until time passes."""
    await post.check_books()
    engine, now_us = post.engine, post.clock.now_us()
    runners = engine._runners
    if engine.open_attempts or len(runners) < 2:
        return False
    if any(len(one._tasks) > len(one.sessions) for one in runners.values()):  # opens, claims, probes, closes
        return False
    for lane in engine._book.lanes.values():
        if lane.has_work(now_us):
            ways = [runners[one] for one in lane.chosen]
            if lane.stale or engine._pump.deciding or not all(w.off or w.troubles.backing_off for w in ways):
                return False
    return await post.value("SELECT 1 FROM unknowns WHERE due <= :now", now=now_us) is None


async def _check_the_end(post: FaultBench, servers: list[ScriptedServer], *, in_step: bool) -> None:
    rows = await post.rows(
        "SELECT d.recipient, d.state, d.tries, COALESCE(SUM(a.result = 'unknown'), 0),"
        " COALESCE(SUM(a.result = 'deferred'), 0), COALESCE(SUM(a.result = 'sent'), 0),"
        " COALESCE(SUM(a.result = 'returned' AND a.fault = 'connection' AND a.phase = 'body'), 0),"
        " COALESCE(SUM(a.result = 'deferred' AND a.phase = 'done'), 0), m.purpose"
        " FROM deliveries d JOIN messages m ON m.message_id = d.message_id"
        " LEFT JOIN attempts a ON a.delivery_id = d.delivery_id GROUP BY d.delivery_id"
    )
    for recipient, state, tries, unknown, deferred, sent, cut, refused, purpose in rows:
        copies = sum(play.copies(server, recipient) for server in servers)
        excused = unknown if in_step else unknown + refused
        assert copies <= 1 + excused, f"{recipient} was sent {copies} times with {unknown} unknown"
        assert tries == deferred + cut  # what broke in the body takes a step too, so that it ends
        assert sent == (state == "sent")
        if purpose == Purpose.BROADCAST:
            assert unknown == (state == "unverified")
        assert unknown <= 3
    wrongly = await post.rows(
        "SELECT address FROM suppressions EXCEPT SELECT d.address FROM attempts a JOIN deliveries d"
        " ON d.delivery_id = a.delivery_id WHERE a.result = 'bounced' AND a.phase = 'rcpt'"
        " AND a.code >= 500"
    )
    assert wrongly == []
    held = await post.value("SELECT COUNT(*) FROM events WHERE kind = 'connection_held'")
    refused = await post.value("SELECT COUNT(*) FROM attempts WHERE code >= 500")
    assert held <= refused // EQUAL_REFUSALS
    assert post.complaints() == []
