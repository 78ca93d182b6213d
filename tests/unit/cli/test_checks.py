"""What `doctor` says about ports, and about links in mail."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from postroom import wiring
from postroom.cli import checks
from postroom.cli.checks import Level
from postroom.config import load
from postroom.control.operations import run


def test_every_port_that_serve_would_take_is_tried(tmp_path: Path) -> None:
    free = "127.0.0.1:0"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        given = {"data": str(tmp_path), "http": free, "smtp": taken, "smtps": free, "inbox": free}
        found = {one.name: one for one in checks.outside(load(given, {}), None)}
    ports = {name: one.level for name, one in found.items() if name.startswith("port ")}
    assert ports == {
        "port http": Level.OK,
        "port smtp": Level.WARNING,
        "port smtps": Level.OK,
        "port inbox": Level.OK,
    }
    assert taken in found["port smtp"].text


@pytest.mark.parametrize(
    ("public_url", "host", "level", "said"),
    [
        ("", "127.0.0.1", Level.OK, "work only here"),
        ("", "smtp.example.com", Level.WARNING, "work only here"),
        ("http://mail.example.com", "smtp.example.com", Level.WARNING, "is not https"),
        ("https://mail.example.com", "smtp.example.com", Level.OK, "lead to https://mail.example.com"),
    ],
)
async def test_links_in_mail_that_others_cannot_follow_are_a_warning(
    tmp_path: Path, public_url: str, host: str, level: Level, said: str
) -> None:
    settings = load({"data": str(tmp_path), "public_url": public_url}, {})
    fields = {"label": "out", "host": host, "port": 25, "for_broadcast": True}
    async with wiring.opened(settings) as room:
        await run(room.desk, "bootstrap", {})
        await run(room.desk, "connection.create", {"fields": fields, "server": 1})
        health: Any = await run(room.desk, "health", {})
    (found,) = (one for one in checks.inside(health) if one.name == "links in mail")
    assert found.level is level
    assert said in found.text
