"""Each list and search walks the index made for it, on both databases: nothing is scanned or sorted."""

from __future__ import annotations

import re
from pathlib import Path

from postroom.ids import AccountId, ServerId
from postroom.storage import hot, message_search
from postroom.storage.interface import Sql, Work
from postroom.storage.labels import Label
from postroom.storage.message_search import Search
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.stores import Kind, on_both, on_postgresql

pytestmark = on_both

# Two servers of one account, more of another account, and few of a third one.
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) "
_FILL = (
    "INSERT INTO messages (account_id, message_id, public_id, server_id, stream, purpose, sender, subject,"
    " rfc_message_id, content_id, size_bytes, origin, created_at) "
    + _NUMBERS
    + "SELECT CASE WHEN i % 100 = 3 THEN 3 WHEN i % 4 > 0 THEN 2 ELSE 1 END, i, 'p' || i,"
    " CASE WHEN i % 4 > 0 THEN 2 WHEN i % 7 = 0 THEN 12 ELSE 11 END,"
    " CASE WHEN i % 9 = 0 THEN 'outbound' ELSE 'broadcast' END, 'transactional',"
    " 's' || (i % 40) || '@example.com', 'subject', '<' || i || '>', i, 1, 'test', i FROM n",
    "INSERT INTO deliveries (account_id, delivery_id, server_id, message_id, lane_id, recipient, address,"
    " kind, state, due) SELECT account_id, message_id, server_id, message_id, 1, 'r' || (message_id % 900),"
    " 'r' || (message_id % 900), 'to', 'sent', 0 FROM messages",
)
_LABELS = (
    "INSERT INTO labels (account_id, server_id, label, message_id)"
    " SELECT account_id, server_id, :label, message_id FROM messages"
    " WHERE message_id % CAST(:every AS INTEGER) = 0"
)
_ANY, _MINE, _SMALL = None, ServerId(11), AccountId(3)
_TAG, _ORDER = Label("welcome"), Label("17", "order")
SEARCHES: tuple[tuple[ServerId | None, Search, str], ...] = (
    (_ANY, Search(), "ix_messages_account_id_message_id"),
    (_MINE, Search(), "ix_messages_account_id_server_id_message_id"),
    (_MINE, Search("outbound"), "ix_messages_account_id_server_id_stream_message_id"),
    (_MINE, Search("outbound", subject="x"), "ix_messages_account_id_server_id_stream_message_id"),
    (_MINE, Search("outbound", settled=True), "ix_messages_account_id_server_id_stream_message_id"),
    (_MINE, Search("outbound", sender="s1@example.com"), "ix_messages_sender"),
    (_MINE, Search("outbound", recipient="r7"), "ix_deliveries_address"),
    (_ANY, Search(recipient="r7"), "ix_deliveries_address"),
    (_MINE, Search("outbound", labels=(_TAG,)), "pk_labels"),
    (_MINE, Search("outbound", labels=(_ORDER, _TAG), settled=False), "pk_labels"),
    (_MINE, Search("outbound", recipient="r7", labels=(_TAG,), since_us=9), "ix_deliveries_address"),
)


def _plan(text: str, params: object, kind: Kind) -> Work[str]:
    assert isinstance(params, dict)
    if kind is Kind.SQLITE:
        rows = yield Sql(f"EXPLAIN QUERY PLAN {text}", params)
        return "\n".join(row[3] for row in rows)
    rows = yield Sql(f"EXPLAIN {text}", params)
    return "\n".join(row[0] for row in rows)


async def test_each_search_walks_its_index(tmp_path: Path) -> None:
    kind = stores.made_on()

    def fill() -> Work[None]:
        yield from seed_rows.tenants()
        for text in _FILL:
            yield Sql(text)
        for label, every in ((_TAG, 3), (_ORDER, 600)):
            yield Sql(_LABELS, {"label": label.on("outbound"), "every": every})

    def explain(server_id: ServerId | None, search: Search) -> Work[str]:
        account_id = _SMALL if search == Search() and server_id is None else seed_rows.ACCOUNT
        plan = yield from message_search.plan(account_id, server_id, search)
        statement = next(message_search.look(plan.walk, search, 3900, 50))
        assert isinstance(statement, Sql)
        return (yield from _plan(statement.text, statement.params, kind))

    store = await stores.make_store(tmp_path, FakeClock(), fill)
    await stores.analyse(tmp_path)
    try:
        for server_id, search, index in SEARCHES:

            def work(server_id: ServerId | None = server_id, search: Search = search) -> Work[str]:
                return explain(server_id, search)

            told = (search, await store.read(work))
            assert index in told[1] or (index == "pk_labels" and "label=?" in told[1]), told
            assert not [one for one in ("Seq Scan on messages", "SCAN x", "TEMP B-TREE") if one in told[1]], (
                told
            )
    finally:
        await store.close()


@on_postgresql
async def test_a_claim_reads_of_its_lane_what_it_takes(tmp_path: Path) -> None:
    """However many accounts there are: what their number does to estimates once had a whole lane sorted."""

    def fill() -> Work[None]:
        yield Sql(
            "INSERT INTO messages (account_id, message_id, public_id, server_id, stream, purpose, sender,"
            " subject, rfc_message_id, content_id, size_bytes, origin, created_at)"
            f" {_NUMBERS} SELECT i % 40 + 1, i, 'p' || i, i % 40 + 1, 'outbound', 'broadcast',"
            " 's@example.com', '', '<' || i || '>', i, 1, 'test', i FROM n"
        )
        yield Sql(
            "INSERT INTO deliveries (account_id, delivery_id, server_id, message_id, lane_id, recipient,"
            " address, kind, state, due) SELECT account_id, message_id, server_id, message_id, server_id,"
            " 'r', 'r', 'to', 'ready', message_id FROM messages"
        )
        yield Sql("INSERT INTO ready SELECT account_id, lane_id, due, delivery_id FROM deliveries")

    def explain(n: int) -> Work[str]:
        params = {"account_id": 7, "lane_id": 7, "floor": 0, "now": 10**15, "n": n}
        rows = yield Sql(f"EXPLAIN (ANALYZE, COSTS OFF) {hot.READY_OF_LANE}", params, hot.LOCK_READY)
        return "\n".join(row[0] for row in rows)

    store = await stores.make_store(tmp_path, FakeClock(), fill)
    await stores.analyse(tmp_path)
    try:
        plan = await store.write(lambda: explain(5))
    finally:
        await store.close()
    assert "LockRows" in plan
    assert "Sort" not in plan.split("LockRows")[-1].split("deliveries d")[0], plan
    looked_up = re.findall(r"on (?:deliveries d|messages m) \(.*loops=(\d+)\)", plan)
    assert looked_up == ["5", "5"], plan


@on_postgresql
async def test_an_attempt_is_found_by_its_number_and_not_among_those_that_are_open(tmp_path: Path) -> None:
    """Their index is small, and full of what was open a moment ago: not to be walked for one of them."""

    def fill() -> Work[None]:
        yield from seed_rows.tenants()
        for text in _FILL:
            yield Sql(text)
        yield Sql(
            "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch, decision_id,"
            " day, granted_at, result)"
            " SELECT account_id, delivery_id, 1, 1, 1, 1, 1, 1, 'sent' FROM deliveries"
        )

    def explain() -> Work[str]:
        rows = yield Sql("SELECT account_id, attempt_id FROM attempts ORDER BY attempt_id DESC LIMIT 1")
        which = {"account_id": rows[0][0], "attempt_id": rows[0][1]}
        rows = yield Sql(f"EXPLAIN {hot.OPEN_ATTEMPT}", which, hot.LOCK_ATTEMPT)
        return "\n".join(row[0] for row in rows)

    store = await stores.make_store(tmp_path, FakeClock(), fill)
    await stores.analyse(tmp_path)
    try:
        plan = await store.write(explain)
    finally:
        await store.close()
    assert re.search(r"Index Scan using attempts_\w+_pkey on attempts", plan), plan
