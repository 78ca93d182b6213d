"""The channel's suppression list: addresses that get no broadcast, no sequence and no transactional from it.

The product's list holds for a channel's mail as a whole, so it is our list of all streams; who unsubscribed
from the broadcast stream alone is not on it. Its addresses are answered as they are compared: lower case,
the domain as A-label.
"""

from __future__ import annotations

from collections.abc import Mapping

from postroom.actions import suppressions
from postroom.actions.suppressions import MOST_AT_ONCE
from postroom.clock import to_iso
from postroom.core.server import Owner
from postroom.core.suppression import ALL_STREAMS, Suppression
from postroom.dialects.broadcast.calls import CHANNEL, Answer, Call
from postroom.dialects.broadcast.warnings import Warnings
from postroom.errors import Invalid
from postroom.http.paging import page_number
from postroom.ids import ServerId
from postroom.mail.address import parse_address

SCOPE = "channel"
ROWS_PER_PAGE = 250
_MOST_ECHOED = 320  # characters of a text that is no address


async def index(call: Call) -> Answer:
    """One page of the list, by address."""
    owner, channel = await _channel(call)
    page = page_number(call.query)
    first = (page - 1) * ROWS_PER_PAGE
    rows, total = await suppressions.list_suppressions(
        call.ctx,
        owner,
        channel,
        stream=ALL_STREAMS,
        containing=call.query.get("email", "").strip(),
        limit=ROWS_PER_PAGE,
        offset=first,
    )
    pagination = {
        "total": total,
        "count": len(rows),
        "from": first + 1 if rows else 0,
        "to": first + len(rows) if rows else 0,
        "current": page,
        "total_pages": max(1, -(-total // ROWS_PER_PAGE)),
    }
    return Answer({"suppressions": [_listed(one) for one in rows], "pagination": pagination})


async def add(call: Call) -> Answer:
    """An address is on the list: 201 when it was not before, 200 when it was."""
    owner, channel = await _channel(call)
    email = _email(call.body)
    row, new = await suppressions.suppress_one(call.ctx, call.actor, owner, channel, email)
    return Answer(_warned(call, "email").onto(_shown(row)), 201 if new else 200)


async def remove(call: Call) -> Answer:
    """An address is not on the list any more; `removed` says whether it was."""
    owner, channel = await _channel(call)
    email = _email(call.body or call.query)  # some proxies drop the body of a DELETE
    done = await suppressions.unsuppress(call.ctx, call.actor, owner, channel, [email])
    told = {"email": (done.changed or done.unchanged)[0], "removed": bool(done.changed)}
    return Answer(_warned(call, "email").onto(told))


async def bulk_add(call: Call) -> Answer:
    """Up to 10,000 addresses are on the list. An address counts once, however often and however spelled."""
    owner, channel = await _channel(call)
    done = await suppressions.suppress(call.ctx, call.actor, owner, channel, _emails(call))
    told: dict[str, object] = {
        "added": len(done.changed),
        "already_suppressed": len(done.unchanged),
        "invalid": [one[:_MOST_ECHOED] for one in done.invalid],
    }
    return Answer(_warned(call, "emails").onto(told))


async def bulk_remove(call: Call) -> Answer:
    """Up to 10,000 addresses are not on the list any more; what is no address was not found."""
    owner, channel = await _channel(call)
    done = await suppressions.unsuppress(call.ctx, call.actor, owner, channel, _emails(call))
    told: dict[str, object] = {
        "removed": len(done.changed),
        "not_found": len(done.unchanged) + len(done.invalid),
    }
    return Answer(_warned(call, "emails").onto(told))


async def check(call: Call) -> Answer:
    """Whether an address gets no mail from this channel, and which list says so."""
    owner, channel = await _channel(call)
    email = _email(call.query)
    found = await suppressions.is_suppressed(call.ctx, owner, channel, email)
    return Answer(
        {
            "email": parse_address(email, "email").key,
            "suppressed": found,
            "scope": SCOPE if found else None,
        }
    )


async def _channel(call: Call) -> tuple[Owner, ServerId]:
    owner = await call.channel()
    assert owner.server_id is not None
    return owner, owner.server_id


def _email(given: Mapping[str, object]) -> str:
    """The one address sent. Raises Invalid in the product's words."""
    value = given.get("email")
    if value is None or value == "":
        raise Invalid("", "email can't be blank")
    try:
        if isinstance(value, str):
            parse_address(value, "email")
            return value
    except Invalid:
        pass  # why it is none, the product does not say
    raise Invalid("", "email is invalid")


def _emails(call: Call) -> list[str]:
    value = call.body.get("emails")
    if value is None or value == []:
        raise Invalid("", "emails can't be blank")
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Invalid("", "emails must be a list of addresses")
    if len(value) > MOST_AT_ONCE:
        raise Invalid("", f"emails has {len(value)} addresses; at most {MOST_AT_ONCE} are taken at once")
    return value


def _warned(call: Call, field: str) -> Warnings:
    warnings = Warnings()
    warnings.unrecognized(name for name in call.body if name not in (field, CHANNEL))
    return warnings


def _shown(row: Suppression) -> dict[str, object]:
    return {"id": row.suppression_id, "email": row.address, "scope": SCOPE}


def _listed(row: Suppression) -> dict[str, object]:
    return {**_shown(row), "reason": row.reason.value, "created_at": to_iso(row.created_at_us)}
