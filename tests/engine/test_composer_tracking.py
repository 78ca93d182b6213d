"""A tracked copy is one copy: its finished bytes, and its parts for an API, have the same links."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from postroom.core.message import Purpose
from postroom.engine.claim import Claimed, Pick, claim
from postroom.engine.composer import Composer
from postroom.ids import DecisionId
from postroom.mail.content import Content, Mailbox, TrackLinks
from postroom.mail.links import find_links
from postroom.mail.unsubscribe import Offer
from postroom.storage import lanes
from postroom.tracking.tokens import TokenKind
from tests.support import seed_rows
from tests.support.engine import LINKS, Bench, bench

HTML = "<body><a href=https://shop.example/a>a</a> <a href=https://shop.example/b>b</a></body>"
LINK = re.compile(r"https://post\.example(/[ocu]/[a-z2-7]{39,52})")


def tracked(*to: str) -> Content:
    text = "https://shop.example/a"
    found = find_links(HTML, text, TrackLinks.HTML_AND_TEXT)
    return Content(
        Mailbox(seed_rows.SENDER),
        tuple(Mailbox(one) for one in to),
        subject="x",
        html=HTML,
        text=text,
        track_opens=True,
        html_links=found.html,
        text_links=found.text,
    )


async def claimed(post: Bench, content: Content, purpose: Purpose = Purpose.BROADCAST) -> list[Claimed]:
    """Its deliveries, claimed while nobody sends."""
    people = [one.address for one in content.to]
    connection = await post.store.write(lambda: seed_rows.connection(None))
    await post.store.write(lambda: seed_rows.message(purpose, people, "m", content=content))
    (lane, _), *_ = await post.store.read(lanes.with_mail)
    picks = [Pick(lane.lane_id, lane.server_id, lane.purpose, lane.sender, DecisionId(1), len(people))]
    assert post.engine.terms.present is not None
    worker = post.engine.terms.present.worker
    found = await post.store.write(
        lambda: claim(worker, seed_rows.ACCOUNT, connection, 1, picks, len(people), ())
    )
    return list(found.claimed)


async def test_parts_and_bytes_have_the_same_links(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        (one,) = await claimed(post, tracked("ann@example.net"))
        envelope = await Composer(post.store, LINKS).envelope(one, Offer())
        assert envelope.parts is not None
        parts = envelope.parts()
        assert parts.html is not None
        assert parts.text is not None
        assert "shop.example" not in parts.html + parts.text
        in_parts = LINK.findall(parts.text) + LINK.findall(parts.html)
        in_bytes = LINK.findall(
            envelope.content().decode("ascii").replace("=\r\n", "").partition("\r\n\r\n")[2]
        )
        assert in_parts == in_bytes
        kinds = [path[1] for path in in_parts]
        assert kinds == ["c", "u", "c", "c", "u", "o"]
        for path in in_parts:
            kind = {"c": TokenKind.CLICK, "u": TokenKind.UNSUBSCRIBE, "o": TokenKind.OPEN}[path[1]]
            token = LINKS.read(kind, path[3:])
            assert token is not None
            assert token.delivery_id == one.delivery_id


async def test_every_copy_has_its_own_and_the_cache_knows_its_size(tmp_path: Path) -> None:
    people = [f"reader{number}@example.net" for number in range(5)]
    async with bench(tmp_path) as post:
        composer = Composer(post.store, LINKS)
        seen: list[bytes] = []
        for one in await claimed(post, tracked(*people), Purpose.TRANSACTIONAL):
            envelope = await composer.envelope(one, Offer())
            seen.append(envelope.content())
            again = await composer.envelope(one, Offer())
            assert again.content() == seen[-1]
        assert len(set(seen)) == len(people)
        assert len({len(one) for one in seen}) == 1
        assert composer._bytes == sum(entry.size_bytes for entry in composer._cache.values())


async def test_what_is_not_tracked_is_composed_once_for_all(tmp_path: Path) -> None:
    people = ["ann@example.net", "bob@example.net"]
    async with bench(tmp_path) as post:
        plain = msgspec.structs.replace(tracked(*people), track_opens=False, html_links=(), text_links=())
        composer = Composer(post.store, LINKS)
        found = [
            await composer.envelope(one, Offer()) for one in await claimed(post, plain, Purpose.TRANSACTIONAL)
        ]
        assert found[0].content() is found[1].content()
