"""Evidence for unknown outcomes: where a vendor can be asked whether it took a delivery, it is asked.

Soon, because most answers are there within seconds and transactional mail is about to be sent again; then
ever more rarely, for as long as the delivery stays unknown. Found: it was sent, and is not sent again.
Not found proves nothing. What waits is read from the database, so a restart forgets nothing but when it
asked last.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from postroom.clock import MICROS, Clock
from postroom.core.connection import DeliveryMethod, Vendor
from postroom.core.event import EventKind
from postroom.core.message import DeliveryState, Purpose
from postroom.engine.reference import reference_of
from postroom.engine.tasks import Tasks
from postroom.errors import PostroomError
from postroom.ids import AccountId, AttemptId, ConnectionId, DeliveryId
from postroom.logs import logger
from postroom.storage import hot
from postroom.storage.interface import Sql, Store, Work, now
from postroom.transports.interface import Finder, Found, OpenFailed, Transport
from postroom.transports.vendors import vendor_row

log = logger("engine")
FIRST_S = 5.0
LONGEST_S = 600.0
_MOST = 200  # asked of one vendor in a row
FOUND = "the vendor has it"


def tells(vendor: Vendor, method: str) -> bool:
    """Whether a connection of this vendor and delivery method can be asked what became of a delivery."""
    return method == DeliveryMethod.API and vendor_row(vendor).finds_messages


def can_tell(account_id: AccountId, connection_id: ConnectionId) -> Work[bool]:
    """The same of a connection, deleted or not."""
    rows = yield Sql(
        "SELECT vendor, delivery_method FROM connections"
        " WHERE account_id = :account_id AND connection_id = :connection_id",
        {"account_id": account_id, "connection_id": connection_id},
    )
    return bool(rows) and tells(Vendor(rows[0][0]), rows[0][1])


@dataclass(frozen=True)
class _Open:
    """One unknown delivery whose last way out can be asked."""

    account_id: AccountId
    delivery_id: DeliveryId
    attempt_id: AttemptId
    connection_id: ConnectionId
    rfc_message_id: str
    bulk: bool
    since_us: int


_OPEN = """
SELECT d.account_id, d.delivery_id, d.attempt_id, a.connection_id, m.rfc_message_id, m.purpose,
       COALESCE(a.ended_at, a.granted_at), c.vendor, c.delivery_method
FROM unknowns u
JOIN deliveries d ON d.account_id = u.account_id AND d.delivery_id = u.delivery_id
JOIN messages m ON m.account_id = d.account_id AND m.message_id = d.message_id
JOIN attempts a ON a.account_id = d.account_id AND a.attempt_id = d.attempt_id
JOIN connections c ON c.account_id = a.account_id AND c.connection_id = a.connection_id
WHERE d.state = 'unknown' AND c.delivery_method = 'api' AND c.deleted_at IS NULL
ORDER BY u.due LIMIT 5000
"""


def _open() -> Work[list[_Open]]:
    rows = yield Sql(_OPEN)
    return [
        _Open(row[0], row[1], row[2], row[3], row[4], row[5] != Purpose.TRANSACTIONAL, row[6])
        for row in rows
        if tells(Vendor(row[7]), row[8])
    ]


class Evidence:
    """Asks beside everything else: each vendor one thing at a time, and none waits for another."""

    def __init__(
        self, store: Store, clock: Clock, transport_of: Callable[[ConnectionId], Awaitable[Transport | None]]
    ) -> None:
        self._store, self._clock, self._transport_of = store, clock, transport_of
        self._asked: dict[AttemptId, tuple[int, int]] = {}  # how often, and when next
        self._looking = False
        self._asking: set[ConnectionId] = set()

    def look(self, tasks: Tasks) -> None:
        """Ask about what is due to be asked about. Call it now and then while anything is unknown."""
        if not self._looking:
            self._looking = True
            tasks.spawn(self._look(tasks))

    async def _look(self, tasks: Tasks) -> None:
        try:
            waiting = await self._store.read(_open)
            self._asked = {
                one.attempt_id: self._asked.get(one.attempt_id, (0, one.since_us + int(FIRST_S * MICROS)))
                for one in waiting
            }
            now_us = self._clock.now_us()
            due: dict[ConnectionId, list[_Open]] = {}
            for one in waiting:
                if self._asked[one.attempt_id][1] <= now_us and one.connection_id not in self._asking:
                    due.setdefault(one.connection_id, []).append(one)
            for connection_id, some in due.items():
                self._asking.add(connection_id)
                tasks.spawn(self._ask_about(connection_id, some[:_MOST]))
        except PostroomError as error:
            log.warning("evidence could not be looked for", error=str(error))
        finally:
            self._looking = False

    async def _ask_about(self, connection_id: ConnectionId, some: Sequence[_Open]) -> None:
        try:
            for one in some:
                await self._ask(one)
        except PostroomError as error:
            log.warning("evidence could not be stored", connection=connection_id, error=str(error))
        finally:
            self._asking.discard(connection_id)

    async def _ask(self, one: _Open) -> None:
        known = self._asked.get(one.attempt_id)
        if known is None:  # it is unknown no more
            return
        times, _ = known
        wait_s = min(FIRST_S * 2.0 ** min(times, 20), LONGEST_S)
        self._asked[one.attempt_id] = (times + 1, self._clock.now_us() + int(wait_s * MICROS))
        try:
            transport = await self._transport_of(one.connection_id)
        except (OpenFailed, PostroomError):
            return
        if not isinstance(transport, Finder):
            return
        found = await transport.find(reference_of(one.rfc_message_id, one.delivery_id), bulk=one.bulk)
        if found is not None and await self._store.write(lambda: record(one, found)):
            log.info("an unknown outcome was cleared up", delivery=one.delivery_id)


def record(one: _Open, found: Found) -> Work[bool]:
    """The delivery was sent after all; False when it is not unknown any more."""
    at_us = yield from now()
    which = {"account_id": one.account_id, "delivery_id": one.delivery_id}
    rows = yield Sql(
        "SELECT lane_id, tries, resends, crashes, server_id, message_id, due FROM deliveries"
        " WHERE account_id = :account_id AND delivery_id = :delivery_id AND state = 'unknown'",
        which,
        " FOR UPDATE",
    )
    if not rows:
        return False
    lane_id, tries, resends, crashes, server_id, message_id, due = rows[0]
    yield Sql(hot.DELETE_UNKNOWN, {**which, "due": due})
    yield Sql(
        hot.SETTLE_DELIVERY,
        {
            **which,
            "state": DeliveryState.SENT.value,
            "due": at_us,
            "tries": tries,
            "resends": resends,
            "crashes": crashes,
            "copies": 1,
            "lane_id": lane_id,
            "settled_at": at_us,
            "reason": FOUND,
        },
    )
    yield Sql(
        "UPDATE attempts SET remote_id = :remote_id"
        " WHERE account_id = :account_id AND attempt_id = :attempt_id",
        {"account_id": one.account_id, "attempt_id": one.attempt_id, "remote_id": found.remote_id},
    )
    yield Sql(
        hot.INSERT_EVENT,
        {
            **which,
            "server_id": server_id,
            "message_id": message_id,
            "connection_id": one.connection_id,
            "kind": EventKind.SENT.value,
            "at": at_us,
            "data": json.dumps({"attempt": one.attempt_id, "evidence": "vendor"}),
        },
    )
    return True
