"""The audit trail on a real database."""

from __future__ import annotations

from pathlib import Path

from postroom.core.actor import ENGINE, Actor
from postroom.ids import AccountId
from postroom.storage import audit
from postroom.storage.audit import AuditLine
from postroom.storage.interface import Work
from tests.support.context import make_context
from tests.support.stores import on_both

pytestmark = on_both


def _three() -> Work[None]:
    made: dict[str, object] = {"after": {"name": "é"}}
    yield from audit.add(AccountId(1), 10, Actor("key 1", "192.0.2.7"), "server.create", "server 1", made)
    yield from audit.add(AccountId(2), 11, Actor("key 2"), "server.create", "server 2")
    yield from audit.add(AccountId(1), 12, ENGINE, "server.delete", "server 3")


async def test_lines_of_one_account_newest_first(tmp_path: Path) -> None:
    async with make_context(tmp_path) as ctx:
        await ctx.store.write(_three)
        lines = await ctx.store.read(lambda: audit.list_lines(audit.Wanted(AccountId(1))))
        assert lines == [
            AuditLine(3, AccountId(1), 12, "engine", "", "server.delete", "server 3", {}),
            AuditLine(
                1,
                AccountId(1),
                10,
                "key 1",
                "192.0.2.7",
                "server.create",
                "server 1",
                {"after": {"name": "é"}},
            ),
        ]
        older = await ctx.store.read(
            lambda: audit.list_lines(audit.Wanted(AccountId(1), before_id=3), limit=1)
        )
        assert older == lines[1:]
        only = await ctx.store.read(lambda: audit.list_lines(audit.Wanted(AccountId(1), target="server 3")))
        assert only == lines[:1]
