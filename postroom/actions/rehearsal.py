"""Recipients that are there to be tried: mail to them ends when it is accepted, and nothing of it leaves.

A way in says which they are. They bounce, or count as delivered, in sandboxes too; a hard bounce suppresses
the address as a real one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from postroom.core.actor import ENGINE
from postroom.core.bounce import BounceKind
from postroom.core.message import DeliveryState
from postroom.core.suppression import Origin, Reason
from postroom.ids import AccountId, DeliveryId, ServerId
from postroom.storage import audit, bounces, suppressions
from postroom.storage.bounces import Bounced
from postroom.storage.interface import Work
from postroom.storage.messages import NewDelivery

SAID = "this address is there to be tried; nothing was sent"


def delivery(recipient: str, key: str, kind: str, ending: BounceKind | None) -> NewDelivery:
    """The delivery as it ends. ending: None for one that counts as delivered."""
    state = DeliveryState.SENT if ending is None else DeliveryState.BOUNCED
    return NewDelivery(recipient, key, kind, state, SAID)


def settle(
    account_id: AccountId,
    server_id: ServerId,
    made: Sequence[tuple[DeliveryId, NewDelivery]],
    endings: Mapping[str, BounceKind | None],
    at_us: int,
) -> Work[None]:
    """Bounces and suppressions of those that ended so."""
    bounced: list[Bounced] = []
    hard: list[tuple[DeliveryId, str]] = []
    for delivery_id, one in made:
        kind = endings.get(one.address)
        if kind is None or one.state is not DeliveryState.BOUNCED:
            continue
        bounced.append(Bounced(account_id, delivery_id, kind, SAID))
        if kind is BounceKind.HARD:
            hard.append((delivery_id, one.address))
    if bounced:
        yield from bounces.add_bounced(bounced, at_us)
    for delivery_id, address in hard:
        new = yield from suppressions.add(
            account_id, server_id, at_us, [address], reason=Reason.HARD_BOUNCE, origin=Origin.RECIPIENT
        )
        if new:
            detail = {
                "stream": "all",
                "count": 1,
                "addresses": [address],
                "delivery": delivery_id,
                "text": SAID,
            }
            yield from audit.add(account_id, at_us, ENGINE, "suppression.add", f"server {server_id}", detail)
