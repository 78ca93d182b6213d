"""What a message's way runs names the account of each table it touches, so that accounts can be apart.

A message is really accepted, claimed and settled in each way it can end, and every statement is read; the
texts of `storage.hot` are read beside that, for what is rare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy.sql.base import Executable

from postroom.actions.accept import Idempotency, Submission, accept_message
from postroom.core.message import Purpose
from postroom.engine.claim import Claims, Pick, Worker, claim
from postroom.engine.recover import raise_epoch
from postroom.engine.retry import Policy
from postroom.engine.settle import Ended, settle
from postroom.ids import DecisionId, KeyId, LaneId, WorkerId
from postroom.mail.content import Mailbox
from postroom.storage import hot
from postroom.storage.interface import Rows, Sql, Store, Together, Work
from postroom.storage.tables import metadata
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support import seed_rows
from tests.support.context import make_harness
from tests.support.passed_on import PassedOn

T = TypeVar("T")
TENANTS = {name for name, table in metadata.tables.items() if "account_id" in table.c}
# Asked where only a number came back, from a journal or of a dead worker: not on a message's way.
RARE = {"ACCOUNT_OF_ATTEMPT"}
_TABLE = re.compile(r"\b(FROM|JOIN|INTO|UPDATE)\s+(\w+)(?:\s+(?:AS\s+)?(\w+))?", re.IGNORECASE)
_NO_NAME = {
    "where",
    "set",
    "values",
    "on",
    "join",
    "left",
    "cross",
    "order",
    "limit",
    "group",
    "as",
    "returning",
}


def unnamed(text: str) -> list[str]:
    """Tenant tables of a statement whose account it does not name."""
    bare = len(re.findall(r"(?<![.\w])account_id\s*(?:=|IN\b)", text))
    missing = []
    for verb, table, alias in _TABLE.findall(text):
        if table not in TENANTS:
            continue
        if verb.upper() == "INTO":
            named = "account_id" in text[text.index("(") : text.index(")")]
        else:
            name = table if alias.lower() in _NO_NAME or not alias else alias
            named = bool(re.search(rf"\b{name}\.account_id\s*(?:=|IN\b)|=\s*{name}\.account_id\b", text))
            if not named and bare:
                bare, named = bare - 1, True
        if not named:
            missing.append(table)
    return missing


class Recorder(PassedOn):
    """A store that notes the text of each statement."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.texts: list[str] = []

    async def read(self, work: Callable[[], Work[T]]) -> T:
        return await self.store.read(lambda: self._noting(work()))

    async def read_each(self, works: Sequence[Callable[[], Work[T]]]) -> list[T]:
        return await self.store.read_each([partial(self._noted, work) for work in works])

    def _noted(self, work: Callable[[], Work[T]]) -> Work[T]:
        return self._noting(work())

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        return await self.store.write(lambda: self._noting(work()), size_bytes, share=share)

    def _noting(self, work: Work[T]) -> Work[T]:
        rows: Rows | None = None
        try:
            while True:
                statement = next(work) if rows is None else work.send(rows)
                for one in statement.statements if isinstance(statement, Together) else (statement,):
                    if isinstance(one, Sql):
                        self.texts.append(one.text)
                    elif isinstance(one, Executable):
                        self.texts.append(str(one))
                rows = yield statement
        except StopIteration as stop:
            value: T = stop.value
            return value


def test_a_statement_that_forgets_one_is_found() -> None:
    assert unnamed("SELECT 1 FROM deliveries WHERE delivery_id = :d") == ["deliveries"]
    assert unnamed(
        "SELECT 1 FROM deliveries d JOIN messages m ON m.message_id = d.message_id WHERE d.account_id = :a"
    ) == ["messages"]
    assert unnamed("INSERT INTO ready (lane_id, due) VALUES (:account_id, :due)") == ["ready"]
    assert unnamed("UPDATE cap SET held = 0 WHERE connection_id = :c") == ["cap"]
    assert unnamed("SELECT 1 FROM cap WHERE account_id = :a AND EXISTS (SELECT 1 FROM lanes)") == ["lanes"]
    assert unnamed("SELECT 1 FROM workers WHERE worker_id = :w") == []


def test_each_hot_statement_names_the_account() -> None:
    texts = {name: text for name, text in vars(hot).items() if name.isupper() and name[0] != "_"}
    statements = {name: text for name, text in texts.items() if isinstance(text, str) and _TABLE.search(text)}
    assert len(statements) > 20
    assert {name: unnamed(text) for name, text in statements.items() if unnamed(text)}.keys() == RARE


async def test_a_message_goes_its_way_inside_its_account(tmp_path: Path) -> None:
    ends = [
        Outcome(Result.SENT, Fault.NONE, Phase.DONE, 250, text="taken"),
        Outcome(Result.DEFERRED, Fault.RECIPIENT, Phase.RCPT, 451, text="later"),
        Outcome(Result.BOUNCED, Fault.RECIPIENT, Phase.RCPT, 550, "5.1.1", "nobody"),
        Outcome(Result.UNKNOWN, Fault.NONE, Phase.DOT, 0, text="gone", begun=True),
        Outcome(Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, 0, text="closed"),
    ]
    async with make_harness(tmp_path) as harness:
        recorder = Recorder(harness.store)

        def seed() -> Work[int]:
            yield from seed_rows.tenants()
            yield from seed_rows.connection(100, 100)
            yield Sql("UPDATE servers SET had_connection = 1")
            yield Sql(
                "INSERT INTO streams (account_id, server_id, stream, name, type, created_at)"
                " VALUES (1, 1, 'outbound', 'o', 'transactional', 0)"
            )
            return (yield from raise_epoch(WorkerId(1)))

        epoch = await harness.store.write(seed)
        accepted = await accept_message(
            replace(harness.ctx, store=recorder),
            Submission(
                seed_rows.ACCOUNT,
                seed_rows.SERVER,
                Purpose.TRANSACTIONAL,
                "test",
                [Mailbox(f"r{number}@example.net") for number in range(len(ends))],
                text="Hello",
                idempotency=Idempotency(KeyId(1), "once", b"f"),
                options={"tag": "welcome"},
            ),
        )
        assert len(accepted.deliveries) == len(ends)
        pick = Pick(LaneId(1), seed_rows.SERVER, Purpose.TRANSACTIONAL, seed_rows.SENDER, DecisionId(1), 9)
        connection = (await harness.store.read(lambda: _rows("SELECT connection_id FROM connections")))[0][0]

        def work() -> Work[Claims]:
            return claim(Worker(WorkerId(1), epoch), seed_rows.ACCOUNT, connection, 1, [pick], 9)

        claimed = (await recorder.write(work)).claimed
        assert len(claimed) == len(ends)
        ended = [Ended(one.attempt_id, end, one.account_id) for one, end in zip(claimed, ends, strict=True)]
        await recorder.write(lambda: settle(ended, Policy()))
    assert {text for text in recorder.texts if unnamed(text)} == set()
    assert sum(text in vars(hot).values() for text in set(recorder.texts)) > 15


def _rows(text: str) -> Work[Rows]:
    return (yield Sql(text))
