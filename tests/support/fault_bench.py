"""A running engine whose ways out go to peers that misbehave, on a clock that only the test moves.

Each way out is a real `SmtpTransport` through a dialer that takes loopback for a far peer, so that the
rules for a login on an open network hold. Because time stands still, a connection that backs off stays
so until the test says how much time has passed, and whatever waits for time is never done by chance.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict

from postroom.core.connection import Connection
from postroom.core.message import DeliveryState, Form, Purpose
from postroom.engine.runner import Runner
from postroom.engine.settings import EngineSettings
from postroom.ids import ConnectionId, LaneId, MessageId
from postroom.mail.content import Content, Mailbox
from postroom.storage import lanes
from postroom.storage.interface import Work
from postroom.storage.messages import NewDelivery, NewMessage, pack_content
from postroom.transports import dialer
from postroom.transports.interface import AuthMethod, SmtpTarget, StartTls, Timeouts, Transport
from postroom.transports.smtp import SmtpTransport
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.engine import Bench
from tests.support.scripted_smtp import ScriptedServer

USER, PASSWORD = "postroom", "correct horse"
USERS = {USER: PASSWORD}
LOGIN = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 0", "AUTH PLAIN")
PATIENT = Timeouts(
    connect_s=10.0, banner_s=10.0, command_s=10.0, data_s=10.0, body_s=10.0, reply_s=10.0, quit_s=2.0
)  # never met
SOON_S = 0.4  # for the one wait a peer lets run out
# One step of backing off and an unknown outcome's wait are over after a minute, and nothing earlier.
STILL = EngineSettings(sessions_per_connection=2, backoff_first_s=50.0, look_every_s=0.02)
SEND_BUFFER_BYTES = 16_384  # what the kernel takes of a body while the peer reads nothing


class FarDialer(dialer.Dialer):
    """Dials 127.0.0.1 whatever the name, and says the peer is not on this machine.

    moved: old port -> new port, for peers that come up elsewhere than they went down.
    """

    def __init__(self, moved: Mapping[int, int]) -> None:
        async def resolve(host: str, port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        super().__init__(resolver=resolve)
        self._moved = moved

    async def dial(
        self, host: str, port: int, purpose: dialer.Purpose, *, timeout_s: float
    ) -> tuple[socket.socket, dialer.Peer]:
        sock, peer = await super().dial(host, self._moved.get(port, port), purpose, timeout_s=timeout_s)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        return sock, replace(peer, loopback=False)


class _Keep(logging.Handler):
    """Keeps errors."""

    def __init__(self, kept: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)


class BlackHole:
    """A port that answers no connection attempt: its backlog is full and nobody accepts."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers: list[socket.socket] = []

    async def __aenter__(self) -> BlackHole:
        loop = asyncio.get_running_loop()
        while True:
            filler = socket.socket()
            filler.setblocking(False)
            self._fillers.append(filler)
            try:
                await asyncio.wait_for(loop.sock_connect(filler, ("127.0.0.1", self.port)), 0.1)
            except TimeoutError:
                return self

    async def __aexit__(self, *_: object) -> None:
        for one in (*self._fillers, self._listener):
            one.close()


@dataclass
class FaultBench(Bench):
    """`Bench` with a transport of its own for each connection, and questions about its books."""

    transports: dict[ConnectionId, Transport] = field(default_factory=dict)
    moved: dict[int, int] = field(default_factory=dict)
    logs: list[EventDict] = field(default_factory=list)
    records: list[logging.LogRecord] = field(default_factory=list)

    @property
    def time(self) -> FakeClock:
        assert isinstance(self.clock, FakeClock)
        return self.clock

    async def way_out(
        self,
        peer: ScriptedServer | int,
        purposes: Iterable[Purpose] = tuple(Purpose),
        *,
        context: ssl.SSLContext | None = None,
        hourly_cap: int | None = 100,
        **changes: Any,  # fields of SmtpTarget, of the types they have there
    ) -> ConnectionId:
        """A connection to this peer (or port) for these purposes. With a context it also logs in."""
        port = peer if isinstance(peer, int) else peer.port
        fields: dict[str, Any] = {"starttls": StartTls.OFFERED, "helo_name": "test", "timeouts": PATIENT}
        if context is not None:
            fields |= {"auth": AuthMethod.PLAIN, "username": USER, "password": PASSWORD}
        target = SmtpTarget("localhost", port, **{**fields, **changes})
        made = await self.store.write(lambda: seed_rows.connection(hourly_cap, port=port))
        self.transports[made] = SmtpTransport(target, FarDialer(self.moved), ssl_context=context)
        flags = {f"for_{one.value}": int(one in set(purposes)) for one in Purpose}
        await self.do(
            "UPDATE connections SET for_transactional = :for_transactional, for_broadcast = :for_broadcast,"
            " for_sequence = :for_sequence WHERE connection_id = :c",
            c=made,
            **flags,
        )
        self.engine.connection_changed(made)
        return made

    async def mail(
        self,
        purpose: Purpose,
        recipients: Sequence[str],
        sender: str = seed_rows.SENDER,
        text: str = "hello",
        raw: bytes | None = None,
    ) -> MessageId:
        """Accept a message from `sender` and tell the engine."""
        self.sent += 1
        name = f"m{self.sent}"
        message, lane = await self.store.write(lambda: _message(purpose, recipients, name, sender, text, raw))
        self.engine.wake([(lane, len(recipients))])
        return message

    def runner(self, connection: ConnectionId) -> Runner:
        return self.engine._runners[connection]

    def backs_off(self, connection: ConnectionId) -> bool:
        runner = self.engine._runners.get(connection)
        return runner is not None and runner.troubles.backing_off

    async def value(self, text: str, **params: object) -> Any:
        """The first column of the first row; None without one. Of whatever type it has."""
        rows = await self.rows(text, **params)
        return rows[0][0] if rows else None

    async def check_books(self) -> None:
        """What must hold at every moment, read in one look: room, states and their rows agree."""
        books = dict(await self.rows(_BOOKS))
        unsettled = books["unsettled"]
        assert books["held"] == books["released"] + unsettled
        assert books["held today"] == unsettled
        assert books["used today"] == books["begun"]
        assert books["ready"] == books["rows of ready"]
        assert books["unknown"] == books["rows of unknowns"]
        assert books["claimed"] == unsettled
        assert books["of no state"] == 0

    def complaints(self) -> list[object]:
        """What the engine or anything below it logged as an error or with a traceback."""
        bad = [one for one in self.logs if one["log_level"] in ("error", "critical") or one.get("exc_info")]
        return [*bad, *(record.getMessage() for record in self.records)]

    def _transport(self, connection: Connection) -> Transport:
        return self.transports[connection.connection_id]


_STATES = ", ".join(f"'{one.value}'" for one in DeliveryState)
_BOOKS = f"""
SELECT 'unsettled', COUNT(*) FROM attempts WHERE result IS NULL
UNION ALL SELECT 'begun', COUNT(*) FROM attempts
  WHERE result IN ('sent', 'unknown') OR phase IN ('body', 'done')
UNION ALL SELECT 'held', COALESCE(SUM(held), 0) FROM cap
UNION ALL SELECT 'released', COALESCE(SUM(n), 0) FROM cap_release
UNION ALL SELECT 'held today', COALESCE(SUM(held), 0) FROM cap_day
UNION ALL SELECT 'used today', COALESCE(SUM(used), 0) FROM cap_day
UNION ALL SELECT 'rows of ready', COUNT(*) FROM ready
UNION ALL SELECT 'rows of unknowns', COUNT(*) FROM unknowns
UNION ALL SELECT 'ready', COUNT(*) FROM deliveries WHERE state = 'ready'
UNION ALL SELECT 'unknown', COUNT(*) FROM deliveries WHERE state = 'unknown'
UNION ALL SELECT 'claimed', COUNT(*) FROM deliveries WHERE state = 'claimed'
UNION ALL SELECT 'of no state', COUNT(*) FROM deliveries WHERE state NOT IN ({_STATES})
"""


def _message(
    purpose: Purpose, recipients: Sequence[str], name: str, sender: str, text: str, raw: bytes | None
) -> Work[tuple[MessageId, LaneId]]:
    stream = "outbound" if purpose is Purpose.TRANSACTIONAL else "broadcast"
    form = Form.BYTES if raw else Form.PARTS
    lane = yield from lanes.ensure(seed_rows.ACCOUNT, seed_rows.SERVER, purpose, stream, sender, form=form)
    content = Content(
        Mailbox(sender),
        tuple(Mailbox(one) for one in recipients),
        subject=name,
        text=None if raw else text,
        raw=raw,
    )
    packed = pack_content(content)
    new = NewMessage(
        account_id=seed_rows.ACCOUNT,
        server_id=seed_rows.SERVER,
        key_id=None,
        public_id=name,
        stream=stream,
        purpose=purpose,
        sender=sender,
        subject=name,
        rfc_message_id=f"<{name}@example.com>",
        body=packed,
        size_bytes=len(packed),
        captured=False,
        origin="test",
        options={},
        deliveries=[NewDelivery(one, one, "to", DeliveryState.READY) for one in recipients],
    )
    stored, _ = yield from seed_rows.insert(new, lane)
    return stored, lane


@asynccontextmanager
async def fault_bench(folder: Path, settings: EngineSettings = STILL) -> AsyncIterator[FaultBench]:
    """A running engine with one account, one server and no way out yet. What it logs is kept."""
    clock = FakeClock()
    store = await stores.make_store(folder, clock, seed_rows.tenants)
    with structlog.testing.capture_logs() as logs:
        made = FaultBench(folder, clock, settings, store, None)  # type: ignore[arg-type]  # made from it, next line
        made.logs = logs
        made.engine = made._engine()
        keep = _Keep(made.records)
        logging.getLogger().addHandler(keep)
        await made.engine.start()
        try:
            yield made
        finally:
            await made.engine.stop(5.0)
            await made.store.close()
            logging.getLogger().removeHandler(keep)
