"""A running engine whose ways out are vendors' APIs that misbehave."""

from __future__ import annotations

from postroom.ids import ConnectionId
from postroom.transports.http_client import HttpTimeouts
from tests.delivery.apis.speaking import PATIENT, postmark_speaker, ses_speaker, transport
from tests.support import seed_rows
from tests.support.fault_bench import FaultBench
from tests.support.http_peer import HttpPeer


async def api_way_out(
    post: FaultBench,
    peer: HttpPeer,
    vendor: str = "postmark",
    *,
    hourly_cap: int | None = 100,
    timeouts: HttpTimeouts = PATIENT,
) -> ConnectionId:
    """A connection that sends by this vendor's API, played by `peer`."""
    made = await post.store.write(lambda: seed_rows.connection(hourly_cap))
    speaker = ses_speaker(peer) if vendor == "aws_ses" else postmark_speaker()
    post.transports[made] = transport(peer, speaker, timeouts)
    await post.do(
        "UPDATE connections SET vendor = :vendor, delivery_method = 'api' WHERE connection_id = :c",
        vendor=vendor,
        c=made,
    )
    post.engine.connection_changed(made)
    return made
