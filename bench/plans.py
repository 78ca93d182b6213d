"""How PostgreSQL runs each hot statement: 200,000 deliveries that wait, of a hundred accounts.

    python -m bench.plans

Prints EXPLAIN ANALYZE of each, in an order that a message meets them; nothing is kept. What must not be seen
is a scan or a sort of a table that grows with the mail (tables of a few rows are read whole).
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg

from postroom.storage import hot
from postroom.storage.interface import TAKE, TAKING
from postroom.storage.migrations import postgres as migrations
from postroom.storage.postgres_pieces import arguments, numbered
from tests.support.postgres import PostgresServer

ACCOUNTS, MESSAGES = 100, 200_000
_OF = f"g % {ACCOUNTS} + 1"
_FILL = (
    ("accounts", "account_id, name, created_at", "g, 'a', 0", ACCOUNTS),
    ("servers", "account_id, server_id, name, created_at, updated_at", "g, g, 's', 0, 0", ACCOUNTS),
    (
        "streams",
        "account_id, server_id, stream, name, type, created_at",
        "g, g, 'outbound', 'o', 'transactional', 0",
        ACCOUNTS,
    ),
    (
        "connections",
        "account_id, connection_id, server_id, uid, label, vendor, delivery_method, enabled, for_broadcast,"
        " for_sequence, for_transactional, created_at, updated_at",
        "g, g, g, 'u', 'l', 'other', 'smtp', 1, 1, 1, 1, 0, 0",
        ACCOUNTS,
    ),
    ("cap", "account_id, connection_id", "g, g", ACCOUNTS),
    ("cap_release", "account_id, connection_id, due, n", f"{_OF}, {_OF}, g, 1", 20_000),
    (
        "suppressions",
        "account_id, server_id, address, reason, origin, created_at",
        f"{_OF}, {_OF}, 'x' || g, 'manual', 'customer', 0",
        50_000,
    ),
    (
        "messages",
        "account_id, message_id, public_id, server_id, stream, purpose, sender, subject, rfc_message_id,"
        " content_id, size_bytes, origin, created_at",
        f"{_OF}, g, g::text, {_OF}, 'outbound', 'transactional', 'a@b', 's', '<x>', g, 1, 'bench', g",
        MESSAGES,
    ),
    (
        "deliveries",
        "account_id, delivery_id, server_id, message_id, lane_id, recipient, address, kind, state, due",
        f"{_OF}, g, {_OF}, g, {_OF}, 'r', 'r' || g, 'to', 'ready', g",
        MESSAGES,
    ),
    ("ready", "account_id, lane_id, due, delivery_id", f"{_OF}, {_OF}, g, g", MESSAGES),
    (
        "attempts",
        "account_id, delivery_id, connection_id, worker_id, epoch, decision_id, day, granted_at",
        f"{_OF}, g, {_OF}, 1, 1, 1, 1, 1",
        MESSAGES,
    ),
)
_SHOWN = (
    *("ACCEPTING", "LOCK_CAP", "ROOM_OF", "RELEASE_DUE", "READY_OF_LANE", "NEXT_DUE", "DELETE_READY"),
    *("CLAIM_DELIVERY", "SET_HELD", "OPEN_ATTEMPT", "END_ATTEMPT", "SETTLE_DELIVERY"),
)
_LOCKS = {"READY_OF_LANE": hot.LOCK_READY, "OPEN_ATTEMPT": hot.LOCK_ATTEMPT}
_VALUES: dict[str, object] = {
    "account_id": 3,
    "server_id": 3,
    "lane_id": 3,
    "connection_id": 3,
    "delivery_id": 2,
    "message_id": 2,
    "stream": "outbound",
    "floor": 0,
    "now": 10**15,
    "n": 20,
    "due": 2,
    "day": 1,
    "since": 0,
    "held": 0,
    "worker_id": 1,
    "epoch": 1,
    "state": "sent",
    "tries": 0,
    "resends": 0,
    "crashes": 0,
    "copies": 1,
    "settled_at": 1,
    "reason": "",
    "result": "sent",
    "fault": "",
    "phase": "",
    "code": 250,
    "enhanced": "",
    "reply": "",
    "remote_id": "",
    "signed": "",
}


async def explain(url: str) -> None:
    """Fill an empty database and print the plans."""
    await migrations.upgrade(url, unsafe=True)
    session = await asyncpg.connect(url)
    try:
        for table, columns, values, n in _FILL:
            text = f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, {n}) g"
            await session.execute(text)
        await session.execute("VACUUM ANALYZE")
        attempt = await session.fetchval("SELECT attempt_id FROM attempts WHERE account_id = 3 LIMIT 1")
        values_of = _VALUES | {"attempt_id": attempt}
        for name in _SHOWN:
            plain = f"{getattr(hot, name)}{_LOCKS.get(name, '')}".replace(TAKE, TAKING)
            text, names = numbered(plain.replace("{clock}", "0"))
            await session.execute("BEGIN")
            rows = await session.fetch(
                f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *arguments(names, values_of)
            )
            await session.execute("ROLLBACK")
            sys.stdout.write(f"{name}\n" + "".join(f"  {row[0]}\n" for row in rows))
    finally:
        await session.close()


def main() -> None:
    """Command line."""
    server = PostgresServer({"shared_buffers": "128MB"})
    try:
        asyncio.run(explain(server.of(server.create())))
    finally:
        server.close()


if __name__ == "__main__":
    main()
