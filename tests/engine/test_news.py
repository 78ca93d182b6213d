"""What processes tell each other: all of it, in short texts, seldom, and until it is said."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.engine import teller
from postroom.engine.news import MOST_BYTES, News, read
from postroom.engine.teller import Teller
from postroom.errors import Unavailable
from postroom.ids import AccountId, AttemptId, ConnectionId, LaneId

IDS = st.sets(st.integers(1, 1 << 53), max_size=700)


@given(IDS, IDS, IDS, st.booleans())
def test_nothing_that_is_to_be_stopped_gets_lost_and_the_rest_is_told_or_all_looked_at(
    lanes: set[int], stopped: set[int], returned: set[int], pauses: bool
) -> None:
    news = News(
        lanes=Counter({LaneId(one): 3 for one in lanes}),
        connections={ConnectionId(one) for one in returned},
        stopped={AttemptId(one) for one in stopped},
        returned={AttemptId(one) for one in returned},
        pauses=pauses,
    )
    heard, texts = News(), 0
    while news:
        text = news.take_text("me")
        texts += 1
        assert len(text.encode()) <= MOST_BYTES
        by, part = read(text)
        assert by == "me"
        heard.add(part)
    assert (heard.stopped, heard.returned, heard.pauses) == (stopped, returned, pauses)
    if not heard.everything:
        assert heard.lanes == Counter(dict.fromkeys(lanes, 3))
        assert heard.connections == returned
    assert heard.everything <= (len(lanes) + len(returned) > 300)
    assert texts <= 1 + max(len(stopped), len(returned)) // 200


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"lanes": [1]}', '{"stopped": ["x"]}', "[" * 5000, '{"by": "a", "rooms": 1}'],
)
def test_a_text_that_cannot_be_read_makes_everybody_look(text: str) -> None:
    assert read(text) == ("", News(everything=True))


class Pigeons:
    """A wire that notes what is said, and may be down."""

    def __init__(self) -> None:
        self.said: list[News] = []
        self.down = False
        self.tries = 0

    async def say(self, text: str) -> None:
        self.tries += 1
        if self.down:
            raise Unavailable("down")
        self.said.append(read(text)[1])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller, "_AGAIN_S", 0.01)
    monkeypatch.setattr(teller, "OURS_FIRST_S", 0.01)


async def test_much_at_once_is_one_text(quick: None) -> None:
    wire = Pigeons()
    told = Teller(wire, "me", lambda _: None)
    for n in range(50):
        told.tell(News(connections={ConnectionId(n)}))
        told.woke(Counter({LaneId(1): 2}))
    await told.close()
    assert wire.said == [
        News(lanes=Counter({LaneId(1): 100}), connections={ConnectionId(n) for n in range(50)})
    ]


async def test_what_cannot_be_said_is_said_later(quick: None) -> None:
    wire = Pigeons()
    wire.down = True
    told = Teller(wire, "me", lambda _: None)
    told.tell(News(pauses=True))
    while wire.tries < 2:
        await asyncio.sleep(0.001)
    told.tell(News(accounts={AccountId(1)}))
    wire.down = False
    await told.close()
    heard = News()
    for one in wire.said:
        heard.add(one)
    assert heard == News(pauses=True, accounts={AccountId(1)})


async def test_fresh_mail_that_is_taken_here_is_told_to_nobody(quick: None) -> None:
    """Only what still waits after a while."""
    wire = Pigeons()
    waits = {LaneId(1): 0, LaneId(2): 5}
    told = Teller(wire, "me", waits.get)
    told.woke(Counter({LaneId(1): 3}))
    await told.close()
    assert wire.said == []
    told = Teller(wire, "me", waits.get)
    told.woke(Counter({LaneId(1): 3, LaneId(2): 9}))
    await told.close()
    assert wire.said == [News(lanes=Counter({LaneId(2): 5}))]


async def test_a_wire_that_stays_down_does_not_hold_up_the_end(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller, "_LAST_WORDS_S", 0.05)
    wire = Pigeons()
    wire.down = True
    told = Teller(wire, "me", lambda _: None)
    told.tell(News(pauses=True))
    await told.close()
    assert wire.said == []
    assert wire.tries >= 1
