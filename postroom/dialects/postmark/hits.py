"""The calls for opens and clicks: the first time a person opened a copy, or followed each of its links.

Programs are told by their own words, `UserAgent`, alone: what client, system and place those stand for is
left empty, so a search for one of them finds nothing.
"""

from __future__ import annotations

from postroom.actions import hit_search
from postroom.actions.hit_search import MOST_FOUND, HitPage, SeenHit, Wanted
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.mail_fields import DEFAULT_STREAM
from postroom.dialects.postmark.times import moments, to_wire
from postroom.errors import Invalid, NotFound
from postroom.http.calls import Answer
from postroom.mail.address import address_key, parse_mailbox

UNKNOWN = "Unknown"
PARTS = ("Name", "Company", "Family")
PLACE = ("CountryISOCode", "Country", "RegionISOCode", "Region", "City", "Zip", "Coords", "IP")
# Of programs and places nothing is known.
NOT_KNOWN = (
    *("client_name", "client_company", "client_family", "os_name", "os_family", "os_company"),
    *("country", "region", "city"),
)


async def opens(call: Call) -> Answer:
    """What was opened, newest first."""
    return _told(await _search(call, clicks=False), clicks=False)


async def clicks(call: Call) -> Answer:
    """What links were followed, newest first."""
    return _told(await _search(call, clicks=True), clicks=True)


async def opens_of_message(call: Call) -> Answer:
    """Who opened a message, newest first."""
    return _told(await _of_message(call, clicks=False), clicks=False)


async def clicks_of_message(call: Call) -> Answer:
    """Who followed what links of a message, newest first."""
    return _told(await _of_message(call, clicks=True), clicks=True)


async def _search(call: Call, *, clicks: bool) -> HitPage:
    count, offset = call.page(700, most_in_all=MOST_FOUND)
    asked = call.asked
    since, until = moments(asked, "fromdate", 700), moments(asked, "todate", 700)
    platform, recipient = asked.text("platform"), asked.text("recipient")
    nothing = HitPage(0, ())
    if any(asked.text(name) for name in NOT_KNOWN) or (platform or UNKNOWN).lower() != UNKNOWN.lower():
        return nothing
    try:
        to = "" if recipient is None else address_key(parse_mailbox(recipient, "recipient").address)
    except Invalid:
        return nothing
    wanted = Wanted(
        clicks=clicks,
        stream=(asked.text("messagestream") or DEFAULT_STREAM).lower(),
        recipient=to,
        since_us=None if since is None else since[0],
        until_us=None if until is None else until[1],
    )
    return await hit_search.search(
        call.ctx, call.owner, call.server_id, wanted, tag=asked.text("tag") or "", count=count, offset=offset
    )


async def _of_message(call: Call, *, clicks: bool) -> HitPage:
    count, offset = call.page(700, most_in_all=MOST_FOUND)
    try:
        return await hit_search.of_message(
            call.ctx, call.owner, call.params["message"].lower(), clicks=clicks, count=count, offset=offset
        )
    except NotFound:
        raise ApiError(701, text="This message was not found.") from None


def _told(page: HitPage, *, clicks: bool) -> Answer:
    shown = [_click(one) if clicks else _open(one) for one in page.hits]
    return Answer({"TotalCount": page.total, "Clicks" if clicks else "Opens": shown})


def _open(one: SeenHit) -> dict[str, object]:
    return {"RecordType": "Open", "FirstOpen": True, "ReadSeconds": 0, **_common(one)}


def _click(one: SeenHit) -> dict[str, object]:
    where = "Text" if one.in_text else "HTML"
    return {"RecordType": "Click", "ClickLocation": where, "OriginalLink": one.target, **_common(one)}


def _common(one: SeenHit) -> dict[str, object]:
    return {
        "Client": dict.fromkeys(PARTS, ""),
        "OS": dict.fromkeys(PARTS, ""),
        "Platform": UNKNOWN,
        "UserAgent": one.user_agent,
        "Geo": dict.fromkeys(PLACE, ""),
        "MessageID": one.public_id,
        "MessageStream": one.stream,
        "ReceivedAt": to_wire(one.at_us),
        "Tag": one.tag,
        "Recipient": one.recipient,
    }
