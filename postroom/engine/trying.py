"""One attempt on one open session, on a fresh one where the peer has left the old one meanwhile."""

from __future__ import annotations

from postroom.clock import Clock
from postroom.engine.attempt import Attempt
from postroom.engine.host import Host
from postroom.engine.sessions import Slot
from postroom.engine.way_out import WayOut
from postroom.errors import PostroomError
from postroom.logs import logger
from postroom.transports.interface import Fault, OpenFailed, Outcome, Phase, Result

log = logger("engine")
_RESTED_S = 1.0  # a session that waited for longer may have been closed by its peer meanwhile


async def try_on(host: Host, way: WayOut, slot: Slot, attempt: Attempt) -> Outcome:
    """One attempt; a fault of ours in it ends this session and nothing else."""
    try:
        return await host.envelope_outcome(attempt, lambda a: _deliver(host.clock, way, slot, a))
    except Exception as error:
        log.exception("an attempt failed unexpectedly", delivery=attempt.claimed.delivery_id)
        slot.session.abort()
        text = f"a fault of ours: {type(error).__name__}"
        if attempt.past_dot:
            return Outcome(Result.UNKNOWN, Fault.OURS, Phase.DOT, text=text, begun=True)
        return Outcome(Result.DEFERRED, Fault.OURS, Phase.CONNECT, text=text, begun=attempt.on_its_way)


async def _deliver(clock: Clock, way: WayOut, slot: Slot, attempt: Attempt) -> Outcome:
    # A spare session that was never used goes stale as well.
    rested = clock.steady_s() - slot.idle_since_s >= _RESTED_S
    outcome = await slot.session.deliver(attempt.envelope, attempt)
    slot.used += 1
    reused = slot.used > 1 or rested
    stale = reused and outcome.before_mail_reply and outcome.fault is Fault.CONNECTION
    if outcome.result is not Result.RETURNED or not stale or attempt.stopped:
        return outcome
    await slot.session.close()
    try:
        slot.session = await way.open()
    except OpenFailed as failed:
        return failed.outcome
    except PostroomError as error:  # deleted, or unreadable now: no step of the delivery's schedule
        return Outcome(
            Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text=str(error), session_usable=False
        )
    slot.used = 1
    return await slot.session.deliver(attempt.envelope, attempt)
