"""What a database says of itself, for `doctor`: whether it keeps what it took, and has room for us."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.storage.interface import Sql, Work

_SHOWN = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "autovacuum",
    "max_connections",
    "superuser_reserved_connections",
)


def sqlite_facts() -> Work[Mapping[str, object]]:
    """Of the connection that writes."""
    mode = yield Sql("PRAGMA journal_mode")
    synchronous = yield Sql("PRAGMA synchronous")
    return {"kind": "sqlite", "journal_mode": mode[0][0], "synchronous": synchronous[0][0]}


def postgres_facts() -> Work[Mapping[str, object]]:
    """Of the server and this database. at_us: its clock; connections: taken now, by all and by Postroom."""
    facts: dict[str, object] = {"kind": "postgresql"}
    for name in _SHOWN:
        rows = yield Sql(f"SHOW {name}")
        facts[name] = rows[0][0]
    # One without the right to see others' rows still counts them: only what they do is hidden.
    rows = yield Sql(
        "SELECT count(*), count(CASE WHEN datname = current_database() THEN 1 END) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend'"
    )
    facts["connections"], facts["own_connections"] = rows[0]
    rows = yield Sql(
        "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT), version_num,"
        " pg_database_size(current_database()) FROM alembic_version"
    )
    facts["at_us"], facts["schema"], facts["size_bytes"] = rows[0]
    return facts
