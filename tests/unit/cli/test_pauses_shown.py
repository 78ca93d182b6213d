"""A paused connection says so wherever connections are shown, and the queue says what is paused."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.control import operations
from postroom.control.desk import Desk
from postroom.errors import Invalid, NotFound

FIELDS = {"label": "Out", "host": "mail.example.com", "port": 587, "for_broadcast": True}


async def asked(desk: Desk, name: str, **args: object) -> Any:  # Any: JSON values
    return await operations.run(desk, name, args)


async def test_a_pause_is_shown_with_its_connection_and_in_health(desk: Desk) -> None:
    await asked(desk, "bootstrap")
    made = await asked(desk, "connection.create", fields=FIELDS)
    number = made["connection_id"]
    await asked(desk, "queue.pause", connection=number, reason="odd bounces")
    again = await asked(desk, "queue.pause", connection=number)
    assert (again["made"], again["reason"]) == (False, "odd bounces")
    listed = (await asked(desk, "connection.list"))["data"][0]
    shown = await asked(desk, "connection.show", connection=number)
    assert listed["paused"] == shown["paused"]
    assert (shown["paused"]["what"], shown["paused"]["reason"]) == (f"connection {number}", "odd bounces")
    assert (await asked(desk, "health"))["pauses"] == [shown["paused"]]
    await asked(desk, "queue.pause", everything=True)
    ended = await asked(desk, "queue.resume", connection=number)
    assert ended["ended"] == shown["paused"]
    assert [one["what"] for one in ended["still"]] == ["everything"]
    assert (await asked(desk, "connection.show", connection=number))["paused"] is None


async def test_what_to_pause_is_said_once_and_exists(desk: Desk) -> None:
    await asked(desk, "bootstrap")
    for args in ({}, {"everything": True, "server": 1}, {"server": 1, "connection": 1}):
        for name in ("queue.pause", "queue.resume"):
            with pytest.raises(Invalid, match="say what is meant, one of --all, --server and --connection"):
                await asked(desk, name, **args)
    for missing in ({"server": 99}, {"connection": 2**70}, {"connection": 0}, {"server": -1}):
        with pytest.raises(NotFound):
            await asked(desk, "queue.pause", **missing)
