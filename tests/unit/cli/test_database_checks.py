"""What `doctor` says of PostgreSQL, from what the server said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from postroom.cli.checks import Check, Level
from postroom.cli.database_checks import database
from postroom.config import load

URL = "postgresql://postroom@localhost/postroom"
GOOD: dict[str, Any] = {  # Any: JSON values
    "kind": "postgresql",
    "server_version": "17.2",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "connections": 20,
    "own_connections": 10,
    "schema": "0001",
    "size_bytes": 12_345_678,
    "ahead_s": 0.2,
}


def checks(flags: Mapping[str, str] | None = None, **facts: Any) -> dict[str, Check]:
    settings = load({"database": URL, **(flags or {})}, {})
    return {one.name: one for one in database({**GOOD, **facts}, settings)}


def test_a_server_as_it_should_be_is_well() -> None:
    found = checks()
    assert {one.level for one in found.values()} == {Level.OK}
    assert found["database"].text == "PostgreSQL 17.2, schema 0001, 12,345,678 bytes"


@pytest.mark.parametrize(
    ("facts", "name", "level", "said"),
    [
        ({"fsync": "off"}, "durability", Level.BROKEN, "may lose accepted mail"),
        ({"synchronous_commit": "off"}, "durability", Level.BROKEN, "may lose accepted mail"),
        ({"synchronous_commit": "remote_apply"}, "durability", Level.OK, "remote_apply"),
        ({"full_page_writes": "off"}, "durability", Level.WARNING, "may damage"),
        ({"autovacuum": "off"}, "autovacuum", Level.WARNING, "grow"),
        ({"ahead_s": 3.04}, "clock of the database", Level.WARNING, "3.0 s ahead of"),
        ({"ahead_s": -90.0}, "clock of the database", Level.WARNING, "90.0 s behind"),
    ],
)
def test_what_is_wrong_is_said(facts: dict[str, Any], name: str, level: Level, said: str) -> None:
    found = checks(**facts)[name]
    assert found.level is level
    assert said in found.text


@pytest.mark.parametrize(
    ("processes", "connections", "level"),
    # 97 for us and others, who have 10 of them; each process takes one more, to listen, and 3 are to spare.
    [("7", "11", Level.OK), ("7", "12", Level.WARNING), ("8", "10", Level.WARNING)],
)
def test_connections_are_counted_against_what_the_processes_may_want(
    processes: str, connections: str, level: Level
) -> None:
    found = checks({"processes": processes, "database_connections": connections})["connections"]
    assert found.level is level


def test_behind_a_pooler_they_are_not_ours_to_count() -> None:
    assert "connections" not in checks({"database_pooler": "true"}, connections=100)
