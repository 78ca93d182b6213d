"""Opens and clicks become events: what recipients, or programs on their behalf, did with tracked mail.

Every hit is counted, for each delivery and each of its links; an event is written for each until there are
MOST_EVENTS of them, so that a pixel somebody loads all day fills no table. Machines (scanners, prefetchers)
are counted apart, and their events say so; `first` is the first of a person.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from postroom.actions.context import Context
from postroom.core.event import EventKind
from postroom.errors import NotFound
from postroom.ids import DeliveryId
from postroom.storage import hits, hot, link_targets
from postroom.storage.hits import Count, Person, Whose
from postroom.storage.interface import Sql, Work

MOST_EVENTS = 50  # of one delivery's pixel, or of one of its links
MOST_TEXT = 300  # characters of a user agent


@dataclass(frozen=True)
class Hit:
    """A pixel was loaded or a link followed, `times` times alike. link: the target's number; None: the pixel.

    machine: why it was no person, or "". source: an IP address. in_text: the link stood in the text part.
    """

    delivery_id: DeliveryId
    link: int | None
    at_us: int
    user_agent: str = ""
    source: str = ""
    machine: str = ""
    in_text: bool = False
    times: int = 1


async def target(ctx: Context, content_id: int, number: int) -> str:
    """What a link in this content leads to. Raises NotFound(link); Unavailable."""
    targets = await ctx.store.read(lambda: link_targets.of_content(content_id))
    if number >= len(targets):
        raise NotFound("link")
    return targets[number]


async def record(ctx: Context, found: Sequence[Hit]) -> None:
    """Count these and write their events, in one unit. Raises Unavailable.

    What belongs to no delivery, or to a server that was deleted, is left out.
    """
    await ctx.store.write(lambda: _record(found), size_bytes=sum(200 + len(one.user_agent) for one in found))


def _record(found: Sequence[Hit]) -> Work[None]:
    owners = yield from hits.whose(sorted({one.delivery_id for one in found}))
    together: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
    for place, one in enumerate(found):
        if (owner := owners.get(one.delivery_id)) is not None:
            link = 0 if one.link is None else one.link + 1
            together[owner.account_id, one.delivery_id, link].append(place)
    events: dict[int, dict[str, object]] = {}
    for key in sorted(together):  # in one order, so that two processes never wait for each other
        owner, places = owners[found[together[key][0]].delivery_id], together[key]
        told = yield from _counted(owner, key[2], [found[place] for place in places])
        events |= zip(places, told, strict=False)
    if events:
        yield Sql(hot.INSERT_EVENT, [events[place] for place in sorted(events)])


def _counted(owner: Whose, link: int, alike: Sequence[Hit]) -> Work[list[dict[str, object]]]:
    """Count hits on one link of one delivery. The rows of their events, as many as still may be written."""
    people = sum(one.times for one in alike if not one.machine)
    machines = sum(one.times for one in alike if one.machine)
    last_us = max(one.at_us for one in alike)
    person = next((one for one in alike if not one.machine), None)
    told = None if person is None else Person(person.at_us, person.user_agent[:MOST_TEXT], person.in_text)
    delivery = alike[0].delivery_id
    now_people, now_machines = yield from hits.add(
        Count(owner.account_id, owner.server_id, delivery, link, last_us, people, machines, told)
    )
    room = MOST_EVENTS - (now_people - people) - (now_machines - machines)
    first = person if now_people == people else None
    return [
        {
            "account_id": owner.account_id,
            "server_id": owner.server_id,
            "message_id": owner.message_id,
            "delivery_id": one.delivery_id,
            "connection_id": None,
            "kind": (EventKind.OPENED if one.link is None else EventKind.CLICKED).value,
            "at": one.at_us,
            "data": json.dumps(_data(one, first=one is first)),
        }
        for one in alike[: max(0, room)]
    ]


def _data(hit: Hit, *, first: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "first": first,
        "user_agent": hit.user_agent[:MOST_TEXT],
        "source": hit.source,
    }
    if hit.link is not None:
        found |= {"link": hit.link, "part": "text" if hit.in_text else "html"}
    if hit.machine:
        found["machine"] = hit.machine
    if hit.times > 1:
        found["times"] = hit.times
    return found
