"""How connections to PostgreSQL are made: what each of their sessions is told, and what they raise."""

from __future__ import annotations

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

CONNECT_S = 5.0
# Whatever asyncpg raises; the third is what it says of a connection whose server died amid something.
DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
)
# A client that stops in the middle must not hold its locks for ever.
_IN_TRANSACTIONS = {
    "idle_in_transaction_session_timeout": "10000",
    "lock_timeout": "5000",
    "statement_timeout": "30000",
    "jit": "off",
    # Every table is looked into by a key; a plan made while one was small must not stay when it is not.
    "enable_seqscan": "off",
    # Joins are written in the order that looks least up; of small tables any other order seems as good, and
    # so does reading the whole of one beside the other.
    "join_collapse_limit": "1",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
SETTINGS = {
    **_IN_TRANSACTIONS,
    # What a group asks before its transaction, and what ends it: making a plan for arrays as short as most
    # are takes longer than what it is for. None of it looks into a table of days.
    "plan_cache_mode": "force_generic_plan",
    "application_name": "postroom",
    # Nor a lost one its session.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# Of tables of days a plan for all values takes the lock of every day: in a transaction the server chooses.
CHOOSES = "; SET LOCAL plan_cache_mode = auto"
# Behind a pooler they are said anew in each transaction, in the message that begins it.
SAID = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in _IN_TRANSACTIONS.items())


def engine_for(url: str, *, pooler: bool) -> AsyncEngine:
    """What makes connections; it keeps none.

    pooler: something between us and the server hands each transaction to another of its sessions, so
    nothing may be kept in one: no prepared statements by name, no settings.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_S,
            statement_cache_size=0 if pooler else 512,
            server_settings=None if pooler else SETTINGS,
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",  # we say BEGIN and COMMIT ourselves
        connect_args={"prepared_statement_cache_size": 0} if pooler else {},
    )


def cause_of(error: DBAPIError) -> BaseException:
    """asyncpg's own error under two wrappings; neither shows a statement's parameters."""
    found: BaseException | None = error.orig
    while found is not None and not isinstance(found, DRIVER_ERRORS):
        found = found.__cause__
    return found or error.orig or error
