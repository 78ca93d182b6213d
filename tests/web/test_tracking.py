"""The pixel and the links of tracked mail, on a real socket: where they lead, and what is noted of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import httpx
import pytest

from postroom.actions import accounts, servers
from postroom.errors import Unavailable
from postroom.ids import DeliveryId
from postroom.mail.content import TrackLinks
from postroom.tracking.marking import link_of
from postroom.tracking.tokens import TokenKind
from postroom.web.asked import WRONG_PER_MINUTE
from tests.support.context import ACTOR
from tests.support.engine import LINKS
from tests.web.conftest import READER, Site

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0"
PERSON = {"User-Agent": AGENT}
FIRST, SECOND = "https://shop.example/a?x=1&y=2", "https://bücher.example/straße"
HTML = f"<a href='{FIRST.replace('&', '&amp;')}'>a</a><a href='{SECOND}'>b</a>"
NOT_OURS = ["", "/", "/nothing", "/a/b", "/" + "a" * 39, "/%00", "/..%2f..", "/" + "x" * 5000]


async def tracked(site: Site, *to: str) -> list[DeliveryId]:
    return await site.send(
        *to, html=HTML, text=f"See {FIRST}.", track_opens=True, track_links=TrackLinks.HTML_AND_TEXT
    )


def click(delivery: DeliveryId, number: int, *, in_text: bool = False, content: int = 1) -> str:
    """A link in the first message, unless another content is named."""
    return f"/c/{LINKS.token(TokenKind.CLICK, delivery, link_of(number, in_text=in_text), content)}"


def pixel(delivery: DeliveryId) -> str:
    return f"/o/{LINKS.token(TokenKind.OPEN, delivery)}"


async def events(site: Site) -> list[tuple[str, DeliveryId, Mapping[str, object]]]:
    await site.hits.write(everything=True)
    rows = await site.rows(
        "SELECT kind, delivery_id, data FROM events WHERE kind IN ('opened', 'clicked') ORDER BY event_id"
    )
    return [(row[0], row[1], json.loads(row[2])) for row in rows]


def check_headers(answered: httpx.Response) -> None:
    told = answered.headers
    assert "no-store" in told["cache-control"]
    assert told["referrer-policy"] == "no-referrer"
    assert told["x-robots-tag"] == "noindex, nofollow"
    assert told["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in told


async def test_k3_k4_a_link_goes_to_its_stored_target(site: Site) -> None:
    ann, bob = await tracked(site, "ann@example.net", "bob@example.net")
    for path, location in (
        (click(ann, 0), FIRST),
        (click(ann, 1), "https://xn--bcher-kva.example/stra%C3%9Fe"),
        (click(bob, 0, in_text=True), FIRST),
        (click(bob, 0) + "?url=https://evil.example/&u=x", FIRST),
        (click(bob, 0) + "/", FIRST),
    ):
        answered = await site.http.get(path, headers=PERSON)
        assert (answered.status_code, answered.headers["location"], answered.content) == (302, location, b"")
        check_headers(answered)
        assert "shop.example" not in path
    assert [(kind, who, data["link"], data["part"]) for kind, who, data in await events(site)] == [
        ("clicked", ann, 0, "html"),
        ("clicked", ann, 1, "html"),
        ("clicked", bob, 0, "text"),
    ]


async def test_an_open_is_a_picture_of_nothing(site: Site) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    answered = await site.http.get(pixel(ann), headers=PERSON)
    assert (answered.status_code, answered.headers["content-type"]) == (200, "image/gif")
    assert answered.content.startswith(b"GIF89a\x01\x00\x01\x00")
    check_headers(answered)
    said = {"first": True, "user_agent": AGENT, "source": READER}
    assert await events(site) == [("opened", ann, said)]


async def test_k8_hundreds_of_hits_on_one_pixel_are_few_writes(site: Site) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    token = LINKS.token(TokenKind.OPEN, ann)
    before = site.ctx.store.commits  # type: ignore[attr-defined]  # both stores count
    for _ in range(20):
        await asyncio.gather(*(site.http.get(f"/o/{token}", headers=PERSON) for _ in range(25)))
    ((_, _, data),) = await events(site)
    assert data["times"] == 500
    assert site.ctx.store.commits - before <= 2  # type: ignore[attr-defined]


async def test_k7_head_and_prefetch_lead_on_and_are_counted_apart(site: Site) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    head = await site.http.head(click(ann, 0), headers=PERSON)
    assert (head.status_code, head.headers["location"], head.content) == (302, FIRST, b"")
    early = await site.http.get(click(ann, 1), headers={**PERSON, "Sec-Purpose": "prefetch"})
    assert early.status_code == 302
    seen = await site.http.head(pixel(ann), headers=PERSON)
    assert (seen.status_code, seen.content) == (200, b"")
    await site.http.get(pixel(ann), headers=PERSON)
    assert [(kind, data.get("machine"), data["first"]) for kind, _, data in await events(site)] == [
        ("clicked", "head", False),
        ("clicked", "prefetch", False),
        ("opened", "head", False),
        ("opened", None, True),
    ]


@pytest.mark.parametrize("path", NOT_OURS)
@pytest.mark.parametrize("base", ["/o", "/c"])
async def test_k1_what_is_not_ours_gets_one_and_the_same_page(site: Site, base: str, path: str) -> None:
    answered = await site.http.get(base + path)
    assert answered.status_code == 404
    assert answered.text == (await site.http.get("/u/nothing")).text
    assert "location" not in answered.headers


async def test_k1_a_changed_token_or_one_of_another_kind_leads_nowhere(site: Site) -> None:
    ann, bob = await tracked(site, "ann@example.net", "bob@example.net")
    good = click(ann, 0)
    (plain,) = await site.send("ann@example.net")
    for path in (
        good[:-1],
        good + "a",
        good[:20] + ("a" if good[20] != "a" else "b") + good[21:],
        good[:25] + click(bob, 0)[25:],
        f"/c/{LINKS.token(TokenKind.OPEN, ann)}",
        f"/o/{LINKS.token(TokenKind.CLICK, ann)}",
        f"/c/{LINKS.token(TokenKind.UNSUBSCRIBE, ann)}",
        click(ann, 2),  # signed, and there are two targets
        click(plain, 0, content=2),  # signed, and its message has none
        click(ann, 0, content=999_999),  # signed, and there is no such content
    ):
        answered = await site.http.get(path, headers=PERSON)
        assert (answered.status_code, "location" in answered.headers) == (404, False), path
    assert await events(site) == []


async def test_k5_who_tries_wrong_tokens_is_refused_for_a_while(site: Site) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    for _ in range(WRONG_PER_MINUTE):
        assert (await site.http.get("/c/nothing")).status_code == 404
    assert (await site.http.get(click(ann, 0))).status_code == 429
    other = {"X-Forwarded-For": "198.51.100.1"}
    assert (await site.http.get(click(ann, 0), headers=other)).status_code == 302


async def test_k9_links_outlive_the_server_and_lead_to_its_own_target_only(site: Site) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    assert site.owner.server_id is not None
    await servers.delete_server(site.ctx, ACTOR, site.owner, site.owner.server_id)
    await site.do("DELETE FROM contents")
    other = await accounts.create_account(site.ctx, ACTOR, "Other")
    assert other.account_id != site.owner.account_id
    answered = await site.http.get(click(ann, 0), headers=PERSON)
    assert (answered.status_code, answered.headers["location"]) == (302, FIRST)
    assert await events(site) == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_w7_other_methods_are_refused(site: Site, method: str) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    for path in (pixel(ann), click(ann, 0)):
        answered = await site.http.request(method, path, headers=PERSON)
        assert (answered.status_code, answered.headers["allow"]) == (405, "GET, HEAD")
    assert await events(site) == []


async def test_a_target_that_is_known_asks_no_database(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    assert (await site.http.get(click(ann, 0))).status_code == 302

    async def refuse(*_: object) -> None:
        raise Unavailable("the disk is full", retry_after_s=3)

    with monkeypatch.context() as patched:
        patched.setattr(site.ctx.store, "read", refuse)
        assert (await site.http.get(click(ann, 0))).status_code == 302
        assert (await site.http.get(pixel(ann))).status_code == 200
        other = await site.http.get(click(ann, 1))
    assert (other.status_code, other.headers["retry-after"]) == (503, "3")


async def test_a_long_user_agent_and_a_long_query_are_bounded(site: Site) -> None:
    (ann,) = await tracked(site, "ann@example.net")
    await site.http.get(pixel(ann) + "?" + "x" * 2000, headers={"User-Agent": "x" * 4000})
    ((_, _, data),) = await events(site)
    assert data["user_agent"] == "x" * 300


async def test_no_token_is_logged(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (ann,) = await tracked(site, "ann@example.net")

    async def fail(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(site.ctx.store, "read", fail)
    assert (await site.http.get(click(ann, 0), headers=PERSON)).status_code == 500
    assert "could not be answered" in caplog.text
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    assert ours
    assert click(ann, 0)[3:] not in "".join(ours)
