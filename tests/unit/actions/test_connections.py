"""Connections through their actions, on a real database."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import Table, select

from postroom.actions import connections, servers
from postroom.actions.connection_draft import ConnectionChanges, ConnectionDraft
from postroom.actions.context import Context
from postroom.core.connection import Connection
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.errors import Conflict, Invalid, NotFound, Unavailable
from postroom.ids import ConnectionId, ServerId
from postroom.storage import audit
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.tables import metadata
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support.context import ACTOR, REFUSED_LOGIN, FakeProber, Harness
from tests.support.stores import on_both

pytestmark = on_both

PASSWORD = "correct horse"
DRAFT = ConnectionDraft(
    label="Relay",
    host="smtp.example.com",
    port=587,
    auth="plain",
    for_transactional=True,
    hourly_cap=100,
    secrets={"smtp_username": "user@example.com", "smtp_password": PASSWORD},
)


async def made(ctx: Context, owner: Owner, draft: ConnectionDraft = DRAFT) -> Connection:
    return await connections.create_connection(ctx, ACTOR, owner, draft)


async def rows(ctx: Context, text: str) -> Rows:
    def work() -> Work[Rows]:
        return (yield Sql(text))

    return await ctx.store.read(work)


async def lines(ctx: Context, owner: Owner) -> list[audit.AuditLine]:
    return await ctx.store.read(lambda: audit.list_lines(audit.Wanted(owner.account_id)))


async def test_create_then_get(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)
    assert one.secrets == DRAFT.secrets
    assert (one.version, one.created_at_us, one.active) == (1, harness.clock.now_us(), True)
    assert harness.hearer.connections == [one.connection_id]
    assert await connections.get_connection(ctx, owner, one.connection_id) == replace(one, secrets={})
    assert await connections.get_connection(ctx, owner, one.connection_id, with_secrets=True) == one
    assert await connections.load_connection(ctx, owner.account_id, one.connection_id) == one


async def test_had_connection_is_noted_where_it_belongs(ctx: Context, owner: Owner) -> None:
    shared = Owner(owner.account_id)
    await made(ctx, owner)
    assert await rows(ctx, "SELECT had_connection FROM servers") == [(1,)]
    assert await rows(ctx, "SELECT had_connection FROM accounts") == [(0,)]
    one = await made(ctx, shared)
    await connections.delete_connection(ctx, ACTOR, shared, one.connection_id)
    assert await rows(ctx, "SELECT had_connection FROM accounts") == [(1,)]


async def test_nothing_invalid_is_stored(harness: Harness, owner: Owner) -> None:
    with pytest.raises(Invalid):
        await made(harness.ctx, owner, replace(DRAFT, port="x"))
    assert await rows(harness.ctx, "SELECT count(*) FROM connections") == [(0,)]
    assert harness.hearer.connections == []


async def test_secrets_are_sealed_and_never_told(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)
    await connections.update_connection(
        ctx, ACTOR, owner, one.connection_id, ConnectionChanges(secrets={"smtp_password": PASSWORD + "2"})
    )
    await connections.test_connection(ctx, ACTOR, owner, one.connection_id)
    assert PASSWORD not in repr(one)
    assert PASSWORD not in repr(DRAFT)
    stored = repr([await harness.store.read(partial(_all_of, table)) for table in metadata.sorted_tables])
    assert "smtp_password" in stored
    assert PASSWORD not in stored
    assert PASSWORD.encode().hex() not in stored.lower()


def _all_of(table: Table) -> Work[Rows]:
    return (yield select(table))


async def test_a_sealed_secret_moved_elsewhere_does_not_open(ctx: Context, owner: Owner) -> None:
    one, other = await made(ctx, owner), await made(ctx, owner)

    def swap() -> Work[None]:
        yield Sql(
            "UPDATE connection_secrets SET sealed = (SELECT sealed FROM connection_secrets"
            " WHERE connection_id = :one AND field = 'smtp_password')"
            " WHERE connection_id = :other AND field = 'smtp_password'",
            {"one": one.connection_id, "other": other.connection_id},
        )

    await ctx.store.write(swap)
    with pytest.raises(Unavailable) as caught:
        await connections.load_connection(ctx, owner.account_id, other.connection_id)
    assert PASSWORD not in str(caught.value)
    assert (await connections.get_connection(ctx, owner, other.connection_id)).label == "Relay"


async def test_a_foreign_connection_looks_absent(harness: Harness, owner: Owner, stranger: Owner) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)
    sibling = await servers.create_server(ctx, ACTOR, owner.account_id, "Sibling")
    outsiders = [
        stranger,
        Owner(stranger.account_id),
        Owner(stranger.account_id, whole_account=True),
        Owner(stranger.account_id, owner.server_id),
        Owner(owner.account_id),
        Owner(owner.account_id, sibling.server_id),
    ]
    ids = [one.connection_id, ConnectionId(999), ConnectionId(0), ConnectionId(-1), ConnectionId(2**70)]
    texts = set()
    harness.hearer.connections.clear()
    for outsider in outsiders:
        for number in ids:
            for call in (
                connections.get_connection(ctx, outsider, number),
                connections.update_connection(ctx, ACTOR, outsider, number, ConnectionChanges(label="x")),
                connections.test_connection(ctx, ACTOR, outsider, number),
                connections.delete_connection(ctx, ACTOR, outsider, number),
            ):
                with pytest.raises(NotFound) as caught:
                    await call
                texts.add(str(caught.value))
    assert texts == {"connection not found"}
    assert harness.hearer.connections == []
    assert harness.prober.asked == []
    assert await connections.get_connection(ctx, owner, one.connection_id, with_secrets=True) == one


async def test_nobody_makes_a_connection_for_a_foreign_server(
    ctx: Context, owner: Owner, stranger: Owner
) -> None:
    with pytest.raises(NotFound):
        await made(ctx, Owner(owner.account_id, stranger.server_id))


async def test_lists_are_the_owners_own(ctx: Context, owner: Owner, stranger: Owner) -> None:
    shared = Owner(owner.account_id)
    mine = [(await made(ctx, owner, replace(DRAFT, label=f"{n}"))).connection_id for n in range(3)]
    common = await made(ctx, shared)
    await made(ctx, stranger)
    page, total = await connections.list_connections(ctx, owner, limit=2, offset=1)
    assert ([one.connection_id for one in page], total) == (mine[1:], 3)
    page, total = await connections.list_connections(ctx, owner, limit=9, with_secrets=True)
    assert [one.secrets for one in page] == [DRAFT.secrets] * 3
    page, total = await connections.list_connections(ctx, shared, limit=9)
    assert ([one.connection_id for one in page], total) == ([common.connection_id], 1)
    everything = Owner(owner.account_id, whole_account=True)
    page, total = await connections.list_connections(ctx, everything, limit=9)
    assert ([one.connection_id for one in page], total) == ([*mine, common.connection_id], 4)


async def test_a_campaigns_pool_is_not_the_servers(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner)

    def give_away() -> Work[None]:
        yield Sql("UPDATE connections SET campaign_id = 1")

    await ctx.store.write(give_away)
    assert await connections.list_connections(ctx, owner, limit=9) == ([], 0)
    with pytest.raises(NotFound):
        await connections.get_connection(ctx, owner, one.connection_id)
    assert await connections.load_connection(ctx, owner.account_id, one.connection_id)


@pytest.mark.parametrize(("limit", "offset"), [(-1, 0), (0, -5), (2**70, 2**70), (-(2**70), 3)])
async def test_strange_pages_w14(ctx: Context, owner: Owner, limit: int, offset: int) -> None:
    await made(ctx, owner)
    page, total = await connections.list_connections(ctx, owner, limit=limit, offset=offset)
    assert (page, total) == ([], 1)


async def test_update_changes_what_it_names(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)
    harness.clock.advance(60)
    changed = await connections.update_connection(
        ctx,
        ACTOR,
        owner,
        one.connection_id,
        ConnectionChanges(label="New", hourly_cap=200, for_sequence=True, secrets={"smtp_password": "next"}),
    )
    assert changed == replace(
        one,
        label="New",
        hourly_cap=200,
        purposes=frozenset({Purpose.TRANSACTIONAL, Purpose.SEQUENCE}),
        secrets={"smtp_username": "user@example.com", "smtp_password": "next"},
        version=2,
        updated_at_us=harness.clock.now_us(),
    )
    assert await connections.get_connection(ctx, owner, one.connection_id, with_secrets=True) == changed
    assert harness.hearer.connections == [one.connection_id] * 2


async def test_a_secret_is_cleared_by_null_unless_it_is_needed(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner, replace(DRAFT, secrets={**DRAFT.secrets, "smtp_com_api_key": "k"}))
    clear = ConnectionChanges(secrets={"smtp_com_api_key": None})
    changed = await connections.update_connection(ctx, ACTOR, owner, one.connection_id, clear)
    assert set(changed.secrets) == {"smtp_username", "smtp_password"}
    needed = ConnectionChanges(secrets={"smtp_password": ""})
    with pytest.raises(Invalid):
        await connections.update_connection(ctx, ACTOR, owner, one.connection_id, needed)
    assert (await connections.get_connection(ctx, owner, one.connection_id, with_secrets=True)) == changed


async def test_two_updates_at_once_lose_nothing_w16(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner)
    await asyncio.gather(
        *(
            connections.update_connection(ctx, ACTOR, owner, one.connection_id, changes)
            for changes in (ConnectionChanges(label="New"), ConnectionChanges(hourly_cap=333))
        )
    )
    stored = await connections.get_connection(ctx, owner, one.connection_id)
    assert (stored.label, stored.hourly_cap, stored.version) == ("New", 333, 3)


async def test_compare_and_set_w16(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner)
    results = await asyncio.gather(
        *(
            connections.update_connection(
                ctx, ACTOR, owner, one.connection_id, ConnectionChanges(label=label), expected_version=1
            )
            for label in ("A", "B")
        ),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Connection, Conflict]
    assert (await connections.get_connection(ctx, owner, one.connection_id)).label == "A"


async def test_a_change_ends_a_hold_and_forgets_refused_senders(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner)

    def trouble() -> Work[None]:
        yield Sql("UPDATE connections SET held_until = 1")
        yield Sql(
            "INSERT INTO refused_senders (account_id, connection_id, sender, until, reply)"
            " VALUES (:account, :connection, 'a@b', 1, '553')",
            {"account": owner.account_id, "connection": one.connection_id},
        )

    await ctx.store.write(trouble)
    await connections.update_connection(ctx, ACTOR, owner, one.connection_id, ConnectionChanges(port=25))
    assert await rows(ctx, "SELECT held_until FROM connections") == [(None,)]
    assert await rows(ctx, "SELECT count(*) FROM refused_senders") == [(0,)]


async def test_delete_destroys_the_secrets_and_keeps_the_counters(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)

    def count() -> Work[None]:
        yield Sql("INSERT INTO cap (account_id, connection_id, held) VALUES (1, :id, 7)", {"id": 1})

    await ctx.store.write(count)
    await connections.delete_connection(ctx, ACTOR, owner, one.connection_id)
    with pytest.raises(NotFound):
        await connections.get_connection(ctx, owner, one.connection_id)
    with pytest.raises(NotFound):
        await connections.delete_connection(ctx, ACTOR, owner, one.connection_id)
    assert await connections.list_connections(ctx, owner, limit=9) == ([], 0)
    assert await rows(ctx, "SELECT count(*) FROM connection_secrets") == [(0,)]
    assert await rows(ctx, "SELECT held FROM cap") == [(7,)]
    assert harness.hearer.connections == [one.connection_id] * 2
    again = await made(ctx, owner)
    assert again.connection_id > one.connection_id


async def test_a_passing_test_switches_on_and_clears_the_failure(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner, replace(DRAFT, enabled=False))
    harness.prober.outcome = REFUSED_LOGIN
    failed = await connections.test_connection(ctx, ACTOR, owner, one.connection_id)
    assert (failed.passed, failed.recorded, failed.outcome) == (False, True, REFUSED_LOGIN)
    assert failed.connection.failed_at_us == harness.clock.now_us()
    assert (failed.connection.failed_reason, failed.connection.enabled) == ("Authentication failed", False)
    harness.prober.outcome = FakeProber().outcome
    passed = await connections.test_connection(ctx, ACTOR, owner, one.connection_id)
    assert (passed.passed, passed.recorded, passed.connection.active) == (True, True, True)
    assert passed.connection.failed_reason is None
    assert await connections.get_connection(ctx, owner, one.connection_id, with_secrets=True) == (
        passed.connection
    )
    assert harness.prober.asked[0].secrets == DRAFT.secrets
    assert harness.hearer.connections == [one.connection_id] * 3
    events = await rows(ctx, "SELECT kind, server_id, connection_id, data FROM events ORDER BY event_id")
    assert [event[:3] for event in events] == [
        ("connection_tested", owner.server_id, one.connection_id),
        ("connection_tested", owner.server_id, one.connection_id),
    ]
    assert [json.loads(event[3])["passed"] for event in events] == [False, True]
    newest = (await lines(ctx, owner))[0]
    assert (newest.action, newest.target) == ("connection.test", f"connection {one.connection_id}")
    assert newest.detail["before"] == {
        "enabled": False,
        "failed_at_us": failed.connection.failed_at_us,
        "failed_reason": "Authentication failed",
    }


async def test_testing_a_connection_in_use_cuts_no_session(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner)
    tested = await connections.test_connection(ctx, ACTOR, owner, one.connection_id)
    assert tested.connection.version == one.version


@pytest.mark.parametrize("outcome", [FakeProber().outcome, REFUSED_LOGIN])
async def test_a_result_for_other_settings_is_not_recorded(
    harness: Harness, owner: Owner, outcome: Outcome
) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)

    class Meddler(FakeProber):
        async def meanwhile(self) -> None:
            await connections.update_connection(
                ctx, ACTOR, owner, one.connection_id, ConnectionChanges(enabled=False)
            )

    meddled = replace(ctx, prober=Meddler(outcome))
    tested = await connections.test_connection(meddled, ACTOR, owner, one.connection_id)
    assert tested.recorded is False
    stored = await connections.get_connection(ctx, owner, one.connection_id)
    assert (stored.enabled, stored.failed_at_us) == (False, None)
    assert (await lines(ctx, owner))[0].action == "connection.update"


async def test_a_connection_deleted_while_it_is_tested_stays_deleted(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)

    class Meddler(FakeProber):
        async def meanwhile(self) -> None:
            await connections.delete_connection(ctx, ACTOR, owner, one.connection_id)

    meddled = replace(ctx, prober=Meddler())
    assert (await connections.test_connection(meddled, ACTOR, owner, one.connection_id)).recorded is False
    with pytest.raises(NotFound):
        await connections.get_connection(ctx, owner, one.connection_id)


async def test_our_own_stop_is_not_the_connections_failure(harness: Harness, owner: Owner) -> None:
    one = await made(harness.ctx, owner)
    harness.prober.outcome = Outcome(Result.RETURNED, Fault.OURS, Phase.CONNECT, text="shutting down")
    tested = await connections.test_connection(harness.ctx, ACTOR, owner, one.connection_id)
    assert (tested.passed, tested.recorded) == (False, False)
    assert (await connections.get_connection(harness.ctx, owner, one.connection_id)).active


async def test_the_audit_trail_says_who_changed_what(ctx: Context, owner: Owner, stranger: Owner) -> None:
    one = await made(ctx, owner)
    changes = ConnectionChanges(label="New", secrets={"smtp_password": "next"})
    await connections.update_connection(ctx, ACTOR, owner, one.connection_id, changes)
    newest = (await lines(ctx, owner))[0]
    assert (newest.actor, newest.action) == ("test", "connection.update")
    assert newest.detail == {
        "before": {"label": "Relay", "smtp_password": "***"},
        "after": {"label": "New", "smtp_password": "***"},
    }
    assert all(line.target.startswith(("account", "server")) for line in await lines(ctx, stranger))


async def test_a_secret_that_comes_and_goes_is_told_without_its_text(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner, replace(DRAFT, auth=None, secrets={}))
    given: dict[str, object] = {"smtp_username": "u", "smtp_password": PASSWORD}
    for secrets, auth in ((given, "plain"), (dict.fromkeys(given, ""), None)):
        changes = ConnectionChanges(auth=auth, secrets=secrets)
        await connections.update_connection(ctx, ACTOR, owner, one.connection_id, changes)
    cleared, was_set = [line.detail for line in (await lines(ctx, owner))[:2]]
    assert was_set == {
        "before": {"auth": "", "smtp_password": None, "smtp_username": None},
        "after": {"auth": "plain", "smtp_password": "***", "smtp_username": "***"},
    }
    assert cleared == {"before": was_set["after"], "after": was_set["before"]}


@pytest.mark.parametrize(
    "changes",
    [
        ConnectionChanges(),
        ConnectionChanges(label="  Relay ", hourly_cap="100", enabled=1),
        ConnectionChanges(secrets={"smtp_password": PASSWORD}),
        ConnectionChanges(options={"aws_region": "", "include_unsubscribe_link": True}),
        ConnectionChanges(secrets={"postmark_api_token": None}),
    ],
    ids=["nothing", "the same", "the same secret", "the same options", "a secret it never had"],
)
async def test_what_asks_for_no_change_changes_nothing(
    harness: Harness, owner: Owner, changes: ConnectionChanges
) -> None:
    ctx = harness.ctx
    one = await made(ctx, owner)
    before = len(await lines(ctx, owner))
    harness.clock.advance(60)
    after = await connections.update_connection(ctx, ACTOR, owner, one.connection_id, changes)
    assert after == one
    assert len(await lines(ctx, owner)) == before


async def test_a_passing_test_of_what_works_changes_nothing(harness: Harness, owner: Owner) -> None:
    one = await made(harness.ctx, owner)
    before = len(await lines(harness.ctx, owner))
    harness.clock.advance(60)
    tested = await connections.test_connection(harness.ctx, ACTOR, owner, one.connection_id)
    assert (tested.recorded, tested.connection) == (True, one)
    assert len(await lines(harness.ctx, owner)) == before
    assert await rows(harness.ctx, "SELECT kind FROM events") == [("connection_tested",)]


async def test_a_secret_that_does_not_open_can_be_replaced(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, owner)

    def spoil() -> Work[None]:
        yield Sql(
            "UPDATE connection_secrets SET sealed = :nothing WHERE field = 'smtp_password'",
            {"nothing": b"\x00"},
        )

    await ctx.store.write(spoil)
    changes = ConnectionChanges(secrets={"smtp_password": PASSWORD})
    again = await connections.update_connection(ctx, ACTOR, owner, one.connection_id, changes)
    assert again.secrets == DRAFT.secrets


async def test_capture_ends_once(ctx: Context, owner: Owner) -> None:
    await made(ctx, owner)
    await made(ctx, owner)
    await made(ctx, Owner(owner.account_id))
    ends = [line.target for line in await lines(ctx, owner) if line.action == "capture.end"]
    assert ends == [f"account {owner.account_id}", f"server {owner.server_id}"]


async def test_a_shared_connection_belongs_to_the_account(ctx: Context, owner: Owner) -> None:
    one = await made(ctx, Owner(owner.account_id))
    assert one.server_id is None
    with pytest.raises(NotFound):
        await connections.get_connection(ctx, owner, one.connection_id)
    await connections.test_connection(ctx, ACTOR, Owner(owner.account_id), one.connection_id)
    assert await rows(ctx, "SELECT server_id FROM events") == [(ServerId(0),)]
