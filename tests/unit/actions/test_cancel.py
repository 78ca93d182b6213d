"""Cancelling what changes hands meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from postroom.actions.accept import Submission, accept_message
from postroom.actions.connection_draft import ConnectionDraft
from postroom.actions.connections import create_connection
from postroom.actions.context import Context
from postroom.actions.identities import trust
from postroom.actions.messages import cancel_message
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.ids import DeliveryId
from postroom.mail.content import Mailbox
from postroom.storage.interface import Sql, Work
from tests.support.context import ACTOR, FakeHearer, Harness


@dataclass
class Workers(FakeHearer):
    """Each time one gives the delivery back, and the next one takes it, `times` times."""

    ctx: Context | None = None
    times: int = 0

    async def cancel_claims(self, deliveries: Sequence[DeliveryId]) -> frozenset[DeliveryId]:
        assert self.ctx is not None
        self.times -= 1
        if self.times <= 0:
            await self.ctx.store.write(given_back)
        return await super().cancel_claims(deliveries)


def taken() -> Work[None]:
    yield Sql("DELETE FROM ready")
    yield Sql("UPDATE deliveries SET state = 'claimed'")


def given_back() -> Work[None]:
    yield Sql("UPDATE deliveries SET state = 'ready'")
    yield Sql(
        "INSERT INTO ready (account_id, lane_id, due, delivery_id)"
        " SELECT account_id, lane_id, due, delivery_id FROM deliveries"
    )


async def waiting(harness: Harness, owner: Owner, times: int) -> tuple[Context, Workers, str]:
    """A message that a worker holds, which gives it back when it was asked so many times."""
    ctx = harness.ctx
    workers = Workers(ctx=ctx, times=times)
    assert owner.server_id is not None
    await trust(ctx, ACTOR, "a@example.com", owner.account_id)
    draft = ConnectionDraft(label="c", host="127.0.0.1", port=25, for_transactional=True)
    await create_connection(ctx, ACTOR, owner, draft)
    submission = Submission(
        account_id=owner.account_id,
        server_id=owner.server_id,
        purpose=Purpose.TRANSACTIONAL,
        origin="test",
        to=[Mailbox("b@example.net")],
        sender=Mailbox("a@example.com"),
        text="hello",
    )
    accepted = await accept_message(ctx, submission)
    await ctx.store.write(taken)
    return replace(ctx, hearer=workers), workers, str(accepted.message_id)


async def test_what_another_worker_took_meanwhile_is_stopped_there(harness: Harness, owner: Owner) -> None:
    ctx, workers, message = await waiting(harness, owner, times=2)
    done = await cancel_message(ctx, ACTOR, owner, message)
    assert (len(done.cancelled), done.past_dot) == (1, ())
    assert len(workers.claims) == 2


async def test_what_cannot_be_stopped_is_named_and_not_tried_for_ever(harness: Harness, owner: Owner) -> None:
    ctx, workers, message = await waiting(harness, owner, times=100)
    done = await cancel_message(ctx, ACTOR, owner, message)
    assert (done.cancelled, len(done.past_dot)) == ((), 1)
    assert len(workers.claims) == 3
