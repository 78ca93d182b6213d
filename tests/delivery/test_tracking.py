"""Tracked mail from accept to sink: each copy has its own pixel and links, and they work."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from postroom.core.message import Purpose
from postroom.mail.content import TrackLinks
from postroom.storage.interface import Rows
from tests.delivery.test_bulk_senders import PUBLIC, House, open_house
from tests.support.sink import Received

TARGET = "https://shop.example/?a=1&b=2"
HTML = '<html><body><p class="x">Grüße</p><a href="https://shop.example/?a=1&amp;b=2">da</a></body></html>'
LINK = re.compile(rf"{PUBLIC}(/[oc]/[a-z2-7]{{39,52}})")


def parts_of(one: Received) -> dict[str, str]:
    message = message_from_bytes(one.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return {part.get_content_type(): part.get_content() for part in message.walk() if not part.is_multipart()}


async def clicks(house: House) -> Rows:
    await house.room.hits.write(everything=True)
    return await house.rows(
        "SELECT d.recipient, e.kind FROM events e JOIN deliveries d ON d.delivery_id = e.delivery_id"
        " WHERE e.kind IN ('opened', 'clicked') ORDER BY d.recipient, e.kind"
    )


async def test_each_copy_has_links_of_its_own_that_work(tmp_path: Path) -> None:
    people = [f"reader{number}@example.net" for number in range(4)]
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.send(
            0,
            people,
            purpose=Purpose.TRANSACTIONAL,
            html=HTML,
            text=f"Da: {TARGET}.",
            track_opens=True,
            track_links=TrackLinks.HTML_AND_TEXT,
        )
        await house.settled()
        seen: set[str] = set()
        for one in house.received:
            parts = parts_of(one)
            (in_text,) = LINK.findall(parts["text/plain"])
            assert parts["text/plain"].strip() == f"Da: {PUBLIC}{in_text}."
            in_html, pixel = LINK.findall(parts["text/html"])
            begin = HTML.replace("https://shop.example/?a=1&amp;b=2", PUBLIC + in_html).partition("</body>")[
                0
            ]
            assert parts["text/html"].startswith(f'{begin}<img src="{PUBLIC}{pixel}" ')
            for path in (in_text, in_html):
                answered = await house.http.get(path)
                assert (answered.status_code, answered.headers["location"]) == (302, TARGET)
            assert (await house.http.get(pixel)).status_code == 200
            seen |= {in_text, in_html, pixel}
        assert len(seen) == 3 * len(people)
        rows = [tuple(row) for row in await clicks(house)]
        assert rows == [(one, kind) for one in people for kind in ("clicked", "opened")]


async def test_k6_a_message_that_its_client_composed_goes_out_as_it_came(tmp_path: Path) -> None:
    raw = b"From: news@shop.example\r\nSubject: x\r\nContent-Type: text/html\r\n\r\n" + HTML.encode("utf-8")
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.send(
            0,
            ["reader@example.net"],
            purpose=Purpose.TRANSACTIONAL,
            html=None,
            text=None,
            attachments=(),
            raw=raw,
            track_opens=True,
            track_links=TrackLinks.HTML_AND_TEXT,
        )
        await house.settled()
        (one,) = house.received
        assert HTML.encode() in one.content
        assert PUBLIC.encode() not in one.content


async def test_only_the_message_that_asks_is_tracked(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.send(0, ["a@example.net"], html=HTML, track_links=TrackLinks.HTML)
        await house.send(0, ["a@example.net"], html=HTML)
        await house.settled()
        found = [len(LINK.findall(parts_of(one)["text/html"])) for one in house.received]
        assert sorted(found) == [0, 1]
