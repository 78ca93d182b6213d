"""The unsubscribe link: what a GET shows, what a POST does, and what neither does."""

from __future__ import annotations

import json

import pytest

from postroom.actions import servers, suppressions
from postroom.core.message import DeliveryState, Purpose
from postroom.core.suppression import Origin, Reason
from postroom.errors import Unavailable
from postroom.tracking.tokens import TokenKind
from postroom.web.asked import WRONG_PER_MINUTE
from postroom.web.public import CHANGES_PER_MINUTE, masked
from tests.support.context import ACTOR
from tests.support.engine import LINKS
from tests.web.conftest import ONE_CLICK, READER, Site

ANN, BOB = "Ann@example.net", "bob@example.net"
ANN_KEY = "ann@example.net"


async def test_u1_get_and_head_show_and_change_nothing(site: Site) -> None:
    ann, bob = await site.send(ANN, BOB)
    shown = await site.http.get(site.path(ann))
    assert shown.status_code == 200
    assert "A•••@example.net" in shown.text
    assert "news@shop.example" in shown.text
    assert "Shop · Broadcasts" in shown.text
    assert 'value="unsubscribe"' in shown.text
    assert "Ann@" not in shown.text
    head = await site.http.head(site.path(bob))
    assert (head.status_code, head.content) == (200, b"")
    await site.http.get(site.path(ann), headers={"Sec-Purpose": "prefetch"})
    assert await site.suppressed() == set()
    assert await site.rows("SELECT 1 FROM events WHERE kind = 'unsubscribed'") == []


async def test_u2_u4_one_click_suppresses_exactly_that_address_and_again_is_the_same(site: Site) -> None:
    ann, _ = await site.send(ANN, BOB)
    for _ in range(2):
        answered = await site.http.post(site.path(ann), data=ONE_CLICK)
        assert answered.status_code == 200
        assert "set-cookie" not in answered.headers
    assert await site.suppressed() == {("broadcast", ANN_KEY)}
    events = await site.rows("SELECT delivery_id, data FROM events WHERE kind = 'unsubscribed'")
    assert [(row[0], json.loads(row[1])) for row in events] == [(ann, {"way": "one_click", "source": READER})]


async def test_u2_one_click_as_multipart(site: Site) -> None:
    (ann,) = await site.send(ANN)
    answered = await site.http.post(site.path(ann), files={"List-Unsubscribe": (None, "One-Click")})
    assert answered.request.headers["content-type"].startswith("multipart/form-data")
    assert answered.status_code == 200
    assert await site.suppressed() == {("broadcast", ANN_KEY)}


async def test_u2_one_click_without_a_content_type(site: Site) -> None:
    (ann,) = await site.send(ANN)
    answered = await site.http.post(site.path(ann), content=b"List-Unsubscribe=One-Click")
    assert answered.status_code == 200
    assert await site.suppressed() == {("broadcast", ANN_KEY)}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b""),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=Yes"),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=one-click"),
        ("application/x-www-form-urlencoded", b"action=delete"),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click&List-Unsubscribe=One-Click"),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click&" + b"a=1&" * 500),
        ("application/x-www-form-urlencoded", b"a;" * 4000),
        ("application/x-www-form-urlencoded", b"\xff\xfe"),
        ("application/x-www-form-urlencoded", b"action=%ff"),
        ("application/json", b'{"List-Unsubscribe":"One-Click"}'),
        ("text/plain", b"List-Unsubscribe=One-Click"),
        ("multipart/form-data", b"List-Unsubscribe=One-Click"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nOne-Click\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 20,
        ),
        ("multipart/form-data; boundary=" + "x" * 5000, b"--x"),
    ],
)
async def test_u3_w3_w4_any_other_body_is_refused(site: Site, content_type: str, body: bytes) -> None:
    (ann,) = await site.send(ANN)
    answered = await site.http.post(site.path(ann), content=body, headers={"Content-Type": content_type})
    assert answered.status_code == 400
    assert "<h1>" in answered.text
    assert await site.suppressed() == set()


async def test_w2_a_large_body_is_refused(site: Site) -> None:
    (ann,) = await site.send(ANN)
    answered = await site.http.post(site.path(ann), content=b"a=" + b"x" * 20_000)
    assert answered.status_code == 413
    assert await site.suppressed() == set()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_w7_other_methods_are_refused(site: Site, method: str) -> None:
    (ann,) = await site.send(ANN)
    answered = await site.http.request(method, site.path(ann), headers={"X-HTTP-Method-Override": "POST"})
    assert answered.status_code == 405
    assert answered.headers["allow"] == "GET, HEAD, POST"
    assert await site.suppressed() == set()


async def test_k1_a_token_that_is_not_ours_gets_one_and_the_same_page(site: Site) -> None:
    (ann,) = await site.send(ANN)
    good = site.path(ann)
    strange = LINKS.token(TokenKind.UNSUBSCRIBE, type(ann)(999_999))  # signed, and of a delivery nobody has
    wrong = [good[:-1], good + "a", good[:10] + "x" + good[11:], f"/u/{strange}", "/u", "/u/", "/u/a/b"]
    pages = {(await site.http.get(path)).text for path in wrong}
    pages |= {(await site.http.post(path, data=ONE_CLICK)).text for path in wrong}
    assert len(pages) == 1
    assert (await site.http.get(wrong[0])).status_code == 404
    assert (await site.http.post(wrong[0], data=ONE_CLICK)).status_code == 404
    assert await site.suppressed() == set()


async def test_k5_who_tries_wrong_tokens_is_refused_for_a_while(site: Site) -> None:
    (ann,) = await site.send(ANN)
    statuses = [
        (await site.http.post("/u/nothing", data=ONE_CLICK)).status_code for _ in range(WRONG_PER_MINUTE)
    ]
    assert set(statuses) == {404}
    refused = await site.http.post(site.path(ann), data=ONE_CLICK)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert await site.suppressed() == set()
    other = {"X-Forwarded-For": "198.51.100.1"}
    assert (await site.http.get(site.path(ann), headers=other)).status_code == 200
    site.harness.clock.advance(61)
    assert (await site.http.post(site.path(ann), data=ONE_CLICK)).status_code == 200


async def test_k5_an_ipv6_subscriber_is_one_and_an_undeclared_proxy_is_nobody(site: Site) -> None:
    for number in range(WRONG_PER_MINUTE):
        await site.http.get("/u/nothing", headers={"X-Forwarded-For": f"2001:db8::{number:x}"})
        await site.http.get("/u/nothing", headers={"X-Forwarded-For": "127.0.0.1"})
    other = {"X-Forwarded-For": "2001:db8::ffff"}
    assert (await site.http.get("/u/nothing", headers=other)).status_code == 429
    assert (await site.http.get("/u/nothing", headers={"X-Forwarded-For": "127.0.0.1"})).status_code == 404


async def test_one_token_cannot_keep_the_database_busy(site: Site) -> None:
    (ann,) = await site.send(ANN)
    for number in range(CHANGES_PER_MINUTE):
        action = ("unsubscribe", "resubscribe")[number % 2]
        assert (await site.http.post(site.path(ann), data={"action": action})).status_code == 200
    assert (await site.http.post(site.path(ann), data=ONE_CLICK)).status_code == 429


async def test_the_page_acts_and_takes_it_back(site: Site) -> None:
    (ann,) = await site.send(ANN)
    done = await site.http.post(site.path(ann), data={"action": "unsubscribe"})
    assert done.status_code == 200
    assert 'value="resubscribe"' in done.text
    assert await site.suppressed() == {("broadcast", ANN_KEY)}
    again = await site.http.get(site.path(ann))
    assert 'value="resubscribe"' in again.text
    back = await site.http.post(site.path(ann), data={"action": "resubscribe"})
    assert back.status_code == 200
    assert "<button" not in back.text
    assert await site.suppressed() == set()
    events = await site.rows("SELECT kind, data FROM events WHERE kind LIKE '%subscribed' ORDER BY event_id")
    assert [(row[0], json.loads(row[1])["way"]) for row in events] == [
        ("unsubscribed", "page"),
        ("resubscribed", "page"),
    ]


@pytest.mark.parametrize(
    ("reason", "origin", "stream"),
    [
        (Reason.HARD_BOUNCE, Origin.RECIPIENT, ""),
        (Reason.COMPLAINT, Origin.RECIPIENT, ""),
        (Reason.MANUAL, Origin.CUSTOMER, "broadcast"),
        (Reason.UNSUBSCRIBE, Origin.CUSTOMER, "broadcast"),
    ],
)
async def test_taking_it_back_lifts_nothing_else(
    site: Site, reason: Reason, origin: Origin, stream: str
) -> None:
    (ann,) = await site.send(ANN)
    assert site.owner.server_id is not None
    await suppressions.suppress(
        site.ctx, ACTOR, site.owner, site.owner.server_id, [ANN], reason=reason, origin=origin, stream=stream
    )
    before = await site.suppressed()
    shown = await site.http.get(site.path(ann))
    assert "Nothing to do" in shown.text
    assert "<button" not in shown.text
    await site.http.post(site.path(ann), data={"action": "resubscribe"})
    assert await site.suppressed() == before
    # the wish is noted all the same, and holds when the other reason is lifted
    await site.http.post(site.path(ann), data=ONE_CLICK)
    assert await site.suppressed() == before | {("broadcast", ANN_KEY)}


async def test_u6_every_broadcast_stream_and_no_transactional_one(site: Site) -> None:
    await site.do(
        "INSERT INTO streams (account_id, server_id, stream, name, type, created_at)"
        f" VALUES (1, {site.owner.server_id}, 'weekly', 'Weekly', 'broadcast', 0)"
    )
    (ann,) = await site.send(ANN, purpose=Purpose.TRANSACTIONAL)
    await site.http.post(site.path(ann), data=ONE_CLICK)
    assert await site.suppressed() == {("broadcast", ANN_KEY), ("weekly", ANN_KEY)}
    (again,) = await site.send(ANN, purpose=Purpose.TRANSACTIONAL)
    states = await site.rows(f"SELECT state FROM deliveries WHERE delivery_id = {again}")
    assert states[0][0] == DeliveryState.CAPTURED.value


async def test_later_bulk_mail_is_suppressed_at_accept(site: Site) -> None:
    (ann,) = await site.send(ANN)
    await site.http.post(site.path(ann), data=ONE_CLICK)
    later, other = await site.send("ann@EXAMPLE.net", BOB)
    states = await site.rows(
        f"SELECT state FROM deliveries WHERE delivery_id IN ({later}, {other}) ORDER BY 1"
    )
    assert [row[0] for row in states] == ["captured", "suppressed"]


async def test_another_server_of_the_account_goes_on(site: Site) -> None:
    stall = await servers.create_server(
        site.ctx, ACTOR, site.owner.account_id, "Stall", default_sender="news@shop.example"
    )
    (ann,) = await site.send(ANN)
    await site.http.post(site.path(ann), data=ONE_CLICK)
    (theirs,) = await site.send(ANN, server_id=stall.server_id)
    states = await site.rows(f"SELECT state FROM deliveries WHERE delivery_id = {theirs}")
    assert states[0][0] == "captured"


async def test_it_works_after_content_and_events_were_cleared_away(site: Site) -> None:
    (ann,) = await site.send(ANN)
    for table in ("contents", "events", "attempts"):
        await site.do(f"DELETE FROM {table}")
    assert (await site.http.post(site.path(ann), data=ONE_CLICK)).status_code == 200
    assert await site.suppressed() == {("broadcast", ANN_KEY)}


@pytest.mark.parametrize("table", ["servers", "accounts"])
async def test_k9_after_its_server_was_deleted_the_sender_is_gone(site: Site, table: str) -> None:
    (ann,) = await site.send(ANN)
    await site.do(f"UPDATE {table} SET deleted_at = 1")
    shown = await site.http.get(site.path(ann))
    assert shown.status_code == 410
    assert "This sender is gone" in shown.text
    assert (await site.http.post(site.path(ann), data={"action": "unsubscribe"})).status_code == 410
    assert (await site.http.post(site.path(ann), data={"action": "resubscribe"})).status_code == 410
    assert (
        await site.http.post(site.path(ann), data=ONE_CLICK)
    ).status_code == 200  # nothing is sent: so be it
    assert await site.suppressed() == set()


async def test_a_database_that_cannot_write_says_try_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ann,) = await site.send(ANN)

    async def full(*_: object, **__: object) -> None:
        raise Unavailable("full", 7)

    monkeypatch.setattr(site.harness.store, "write", full)
    answered = await site.http.post(site.path(ann), data=ONE_CLICK)
    assert (answered.status_code, answered.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize(
    ("address", "shown"),
    [("ann@example.net", "a•••@example.net"), ("a@example.net", "•••@example.net"), ("żó@x.pl", "ż•••@x.pl")],
)
def test_an_address_is_masked(address: str, shown: str) -> None:
    assert masked(address) == shown


async def test_w12_the_host_header_is_in_no_page(site: Site) -> None:
    (ann,) = await site.send(ANN)
    said = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    for answered in (
        await site.http.get(site.path(ann), headers=said),
        await site.http.post(site.path(ann), headers=said, data={"action": "unsubscribe"}),
    ):
        assert answered.status_code == 200
        assert "evil.example" not in answered.text + str(answered.headers)
        assert "http" not in answered.text


async def test_no_log_line_has_the_token(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    (ann,) = await site.send(ANN)
    caplog.set_level("DEBUG")
    await site.http.post(site.path(ann), data=ONE_CLICK)
    await site.http.post(site.path(ann), content=b"nonsense")
    await site.do("DROP TABLE suppressions")
    assert (await site.http.get(site.path(ann))).status_code == 500
    told = [record for record in caplog.records if record.name.startswith("postroom")]
    assert told
    assert not [
        one for one in told if LINKS.token(TokenKind.UNSUBSCRIBE, ann) in f"{one.getMessage()}{one.exc_text}"
    ]
