"""Rotating secrets: tried first, switched in one commit, the old ones kept until told."""

from __future__ import annotations

import pytest

from postroom.actions import connections, rotation
from postroom.actions.connection_draft import ConnectionChanges, ConnectionDraft
from postroom.actions.context import Context
from postroom.core.connection import Connection
from postroom.core.server import Owner
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ids import AccountId, ConnectionId
from postroom.storage.interface import Rows, Sql, Work
from tests.support.context import ACTOR, REFUSED_LOGIN, FakeProber, Harness
from tests.support.stores import on_both

pytestmark = on_both

OLD, NEW = "correct horse", "battery staple"
DRAFT = ConnectionDraft(
    label="Relay",
    host="smtp.example.com",
    port=587,
    auth="plain",
    for_transactional=True,
    secrets={"smtp_username": "user@example.com", "smtp_password": OLD},
)
CHANGE = {"smtp_password": NEW}


@pytest.fixture
async def made(harness: Harness, owner: Owner) -> Connection:
    return await connections.create_connection(harness.ctx, ACTOR, owner, DRAFT)


async def password(ctx: Context, owner: Owner, one: Connection) -> str:
    found = await connections.get_connection(ctx, owner, one.connection_id, with_secrets=True)
    assert set(found.secrets) == {"smtp_username", "smtp_password"}
    return found.secrets["smtp_password"]


async def stored(ctx: Context) -> list[str]:
    def work() -> Work[Rows]:
        return (yield Sql("SELECT field FROM connection_secrets ORDER BY field"))

    return [row[0] for row in await ctx.store.read(work)]


async def test_what_is_let_in_is_used_and_the_old_one_is_kept(
    harness: Harness, owner: Owner, made: Connection
) -> None:
    ctx, number = harness.ctx, made.connection_id
    done = await rotation.rotate(ctx, ACTOR, owner, number, CHANGE)
    assert (done.switched, done.names) == (True, ("smtp_password",))
    [tried] = harness.prober.asked
    assert tried.secrets == {"smtp_username": "user@example.com", "smtp_password": NEW}
    assert await password(ctx, owner, made) == NEW
    assert await rotation.kept_names(ctx, owner, number) == ("smtp_password",)
    now_ = await connections.get_connection(ctx, owner, number)
    assert now_.version == made.version + 1  # open sessions end after what they do now
    assert harness.hearer.connections[-1] == number


async def test_what_is_refused_changes_nothing(harness: Harness, owner: Owner, made: Connection) -> None:
    harness.prober.outcome = REFUSED_LOGIN
    done = await rotation.rotate(harness.ctx, ACTOR, owner, made.connection_id, CHANGE)
    assert (done.switched, done.outcome) == (False, REFUSED_LOGIN)
    assert await password(harness.ctx, owner, made) == OLD
    after = await connections.get_connection(harness.ctx, owner, made.connection_id)
    assert (after.version, after.failed_at_us) == (made.version, None)
    assert await stored(harness.ctx) == ["smtp_password", "smtp_username"]


async def test_back_and_forth_and_done(harness: Harness, owner: Owner, made: Connection) -> None:
    ctx, number = harness.ctx, made.connection_id
    await rotation.rotate(ctx, ACTOR, owner, number, CHANGE)
    with pytest.raises(Conflict):
        await rotation.rotate(ctx, ACTOR, owner, number, {"smtp_password": "third"})
    assert await rotation.go_back(ctx, ACTOR, owner, number) == ("smtp_password",)
    assert await password(ctx, owner, made) == OLD
    await rotation.go_back(ctx, ACTOR, owner, number)
    assert await password(ctx, owner, made) == NEW
    assert await rotation.finish(ctx, ACTOR, owner, number) == ("smtp_password",)
    assert await stored(ctx) == ["smtp_password", "smtp_username"]
    assert await password(ctx, owner, made) == NEW
    for ended in (rotation.finish, rotation.go_back):
        with pytest.raises(Conflict):
            await ended(ctx, ACTOR, owner, number)


async def test_a_rotation_heals_a_failed_connection(harness: Harness, owner: Owner, made: Connection) -> None:
    harness.prober.outcome = REFUSED_LOGIN
    await connections.test_connection(harness.ctx, ACTOR, owner, made.connection_id)
    harness.prober.outcome = FakeProber().outcome
    await rotation.rotate(harness.ctx, ACTOR, owner, made.connection_id, CHANGE)
    after = await connections.get_connection(harness.ctx, owner, made.connection_id)
    assert after.active


async def test_a_connection_changed_while_the_new_one_was_tried_is_left_alone(
    harness: Harness, owner: Owner, made: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = harness.ctx

    async def somebody_else() -> None:
        changes = ConnectionChanges(secrets={"smtp_password": "theirs"})
        await connections.update_connection(ctx, ACTOR, owner, made.connection_id, changes)

    monkeypatch.setattr(harness.prober, "meanwhile", somebody_else)
    with pytest.raises(Conflict):
        await rotation.rotate(ctx, ACTOR, owner, made.connection_id, CHANGE)
    assert await password(ctx, owner, made) == "theirs"
    assert await stored(ctx) == ["smtp_password", "smtp_username"]


@pytest.mark.parametrize(
    "given",
    [{}, {"smtp_password": OLD}, {"smtp_password": ""}, {"postmark_api_token": "t"}, {"colour": "red"},
     {"smtp_password": "a\r\nb"}],
)  # fmt: skip
async def test_only_stored_secrets_are_rotated_and_only_to_other_ones(
    harness: Harness, owner: Owner, made: Connection, given: dict[str, object]
) -> None:
    with pytest.raises(Invalid):
        await rotation.rotate(harness.ctx, ACTOR, owner, made.connection_id, given)
    assert harness.prober.asked == []


async def test_somebody_elses_connection_is_not_there(harness: Harness, made: Connection) -> None:
    stranger = Owner(AccountId(99))
    for call in (rotation.finish, rotation.go_back):
        with pytest.raises(NotFound):
            await call(harness.ctx, ACTOR, stranger, made.connection_id)
    with pytest.raises(NotFound):
        await rotation.rotate(harness.ctx, ACTOR, stranger, made.connection_id, CHANGE)
    with pytest.raises(NotFound):
        await rotation.kept_names(harness.ctx, stranger, ConnectionId(2**70))


async def test_deleting_a_connection_destroys_what_was_kept(
    harness: Harness, owner: Owner, made: Connection
) -> None:
    await rotation.rotate(harness.ctx, ACTOR, owner, made.connection_id, CHANGE)
    await connections.delete_connection(harness.ctx, ACTOR, owner, made.connection_id)
    assert await stored(harness.ctx) == []
