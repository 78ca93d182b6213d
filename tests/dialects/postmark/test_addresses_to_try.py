"""Addresses to try bounces with: each type, in any spelling, by header, in sandboxes; and nothing is sent."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.actions import by_hand
from postroom.core.bounce import BounceKind
from postroom.core.server import Owner
from postroom.dialects.postmark.addresses_to_try import rehearsed_of
from postroom.dialects.postmark.bounce_types import TYPES
from postroom.errors import Conflict
from postroom.mail.content import Mailbox
from postroom.storage.interface import Rows, Sql, Work
from tests.dialects.postmark.conftest import Postmark
from tests.support.context import ACTOR
from tests.support.stores import on_both

AT, DROPS = "bounce-testing.postmarkapp.com", "blackhole.postmarkapp.com"


async def rows(postmark: Postmark, text: str) -> Rows:
    def work() -> Work[Rows]:
        return (yield Sql(text))

    return await postmark.house.ctx.store.read(work)


async def send(postmark: Postmark, to: str, **more: object) -> Any:  # Any: JSON
    body = {"From": "hello@shop.example", "To": to, "Subject": "Hello", "TextBody": "Hi", **more}
    return await postmark.ok("POST", "/email", body)


def test_every_type_has_an_address_but_complaints() -> None:
    for kind, one in TYPES.items():
        wanted = BounceKind.HARD if kind is BounceKind.COMPLAINT else kind
        for local in (one.type, one.type.upper(), f"{one.type}+7"):
            (found,) = rehearsed_of([Mailbox(f"{local}@{AT}")], None).values()
            assert found is wanted, local
    spelled = ("Hard_Bounce", "soft-bounce", "anything", "")
    kinds = [
        next(iter(rehearsed_of([Mailbox(f"{one or 'x'}@{AT.upper()}")], None).values())) for one in spelled
    ]
    assert kinds == [BounceKind.HARD, BounceKind.SOFT, BounceKind.HARD, BounceKind.HARD]
    assert rehearsed_of(
        [Mailbox(f"x@{DROPS}"), Mailbox(f"x@sub.{AT}"), Mailbox("x@example.net")], "DnsError"
    ) == {f"x@{DROPS}": None}
    asked = rehearsed_of([Mailbox(f"HardBounce@{AT}"), Mailbox("ann@example.net")], "Dns_Error")
    assert asked == {f"hardbounce@{AT}": BounceKind.DNS}


@on_both
async def test_mail_to_them_ends_at_once_and_only_that(postmark: Postmark) -> None:
    sent = await send(
        postmark, f"HardBounce@{AT}", Cc=f"SoftBounce@{AT}, ann@example.net", Bcc=f"drop@{DROPS}", Tag="try"
    )
    found = await rows(
        postmark, "SELECT recipient, state, settled_at IS NOT NULL FROM deliveries ORDER BY delivery_id"
    )
    assert [tuple(row) for row in found] == [
        (f"HardBounce@{AT}", "bounced", 1),
        (f"SoftBounce@{AT}", "bounced", 1),
        ("ann@example.net", "captured", 0),
        (f"drop@{DROPS}", "sent", 1),
    ]
    assert await rows(postmark, "SELECT COUNT(*) FROM ready") == [(0,)]
    told = (await postmark.ok("GET", f"/bounces?count=9&offset=0&messageID={sent['MessageID']}"))["Bounces"]
    assert [(one["Type"], one["Inactive"], one["Tag"]) for one in told] == [
        ("SoftBounce", False, "try"),
        ("HardBounce", True, "try"),
    ]
    events = (await postmark.ok("GET", f"/messages/outbound/{sent['MessageID']}/details"))["MessageEvents"]
    assert {(one["Recipient"], one["Type"], one["Details"].get("BounceID")) for one in events} == {
        (f"HardBounce@{AT}", "Bounced", str(told[1]["ID"])),
        (f"SoftBounce@{AT}", "Bounced", str(told[0]["ID"])),
        (f"drop@{DROPS}", "Delivered", None),
    }
    again = {"From": "hello@shop.example", "To": f"hardbounce@{AT}", "TextBody": "Hi"}
    await postmark.refused(406, "POST", "/email", again)
    await postmark.ok("PUT", f"/bounces/{told[1]['ID']}/activate")
    await send(postmark, f"hardbounce@{AT}", Headers=[{"Name": "X-PM-Bounce-Type", "Value": "Blocked"}])
    (newest, *_) = (await postmark.ok("GET", "/bounces?count=9&offset=0"))["Bounces"]
    assert (newest["Type"], newest["Inactive"]) == ("Blocked", False)


async def test_nobody_can_have_it_sent_after_all(postmark: Postmark) -> None:
    sent = await send(postmark, f"SoftBounce@{AT}", Cc=f"x@{DROPS}")
    owner = Owner(postmark.house.account, whole_account=True)
    for act in (by_hand.retry, by_hand.resend):
        with pytest.raises(Conflict, match="nothing is ever sent to it"):
            await act(postmark.house.ctx, ACTOR, owner, sent["MessageID"])
    assert await rows(postmark, "SELECT COUNT(*) FROM ready") == [(0,)]


async def test_a_sandbox_bounces_them_too_and_the_test_token_stores_nothing(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/servers", {"Name": "Sand", "DeliveryType": "Sandbox"})
    token = made["ApiTokens"][0]
    mail = {"From": "hello@shop.example", "To": f"Transient@{AT}", "TextBody": "Hi"}
    await postmark.ok("POST", "/email", mail, token=token)
    (only,) = (await postmark.ok("GET", "/bounces?count=9&offset=0", token=token))["Bounces"]
    assert (only["Type"], only["TypeCode"]) == ("Transient", 2)
    await postmark.ok("POST", "/email", mail, token="POSTMARK_API_TEST")
    assert await rows(postmark, "SELECT COUNT(*) FROM bounces") == [(1,)]


async def test_a_type_nobody_knows_is_a_hard_bounce(postmark: Postmark) -> None:
    for number, value in enumerate(("x" * 5000, "\u0000", "DROP TABLE", "é")):
        await send(postmark, f"s{number}@{AT}", Headers=[{"Name": "x-pm-bounce-type", "Value": value}])
    assert await rows(postmark, "SELECT kind FROM bounces") == [("hard",)] * 4
