"""A search for a part of the subject finds the same with blocks of subjects as without, and further down."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from postroom.actions import finding, messages
from postroom.actions.context import Context
from postroom.core.server import Owner
from postroom.ids import AccountId, ServerId
from postroom.storage import message_search, subject_search
from postroom.storage.interface import Sql, Work
from postroom.storage.message_search import Search
from postroom.storage.subject_blocks import StreamKey
from postroom.storage.trigrams import folded
from tests.support import subjects
from tests.support.context import make_harness
from tests.support.stores import on_both
from tests.support.subjects import TAG, Said

pytestmark = on_both

ACCOUNT, SERVER = AccountId(1), ServerId(1)
STREAMS = ("outbound", "broadcast")
WORDS = ("100%", "a_b", "Straße", "STRASSE", "ΟΔΟΣ", "οδοσα", "Ärger", "äR", "!", "", "x", "éé", "Größe 7")
_SMALL = {"FIRST_SLICE": 3, "SLICE": 6, "MOST_LOOKED": 14, "MOST_BLOCKS": 2, "MOST_BITMAPS": 5, "CROWDED": 3}


@pytest.fixture
async def ctx(tmp_path: Path) -> AsyncIterator[Context]:
    async with make_harness(tmp_path) as harness:
        await harness.store.write(subjects.tenants)
        yield harness.ctx


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few messages reach."""
    for name, value in _SMALL.items():
        monkeypatch.setattr(finding, name, value)
    monkeypatch.setattr(message_search, "_FEW", 8)


async def fill(ctx: Context, said: Sequence[Said]) -> None:
    await ctx.store.write(lambda: subjects.insert(said))


async def make(ctx: Context, size: int, *streams: str) -> int:
    for stream in streams:
        ctx.subjects.note(StreamKey(ACCOUNT, SERVER, stream), ctx.clock.steady_s())
    return await subjects.maker(ctx, size).run_once()


async def pages(ctx: Context, wanted: Search, enough: int) -> tuple[list[int], int]:
    """All that following the pages brings, and how many there were."""
    found: list[int] = []
    before: int | None = None
    for page in range(1, 1000):
        part = await finding.find(ctx, ACCOUNT, SERVER, wanted, enough=enough, before=before)
        found += part.numbers
        if part.last is None:
            return found, page
        before = part.last
    raise AssertionError(f"{wanted} has no end")


# --- the same as a plain look at everything ------------------------------------------------------------


def crowd(chance: random.Random, numbers: Sequence[int]) -> list[Said]:
    return [
        Said(
            number,
            " ".join(chance.choices(WORDS, k=chance.randrange(4))),
            stream=chance.choice((*STREAMS, STREAMS[0])),
            sender=chance.choice(("a@example.com", "b@example.com")),
            address=chance.choice(("r@example.net", "s@example.net", "r@other.example")),
            settled=chance.random() < 0.7,
            tagged=chance.random() < 0.4,
            at_s=number - 1000,
        )
        for number in numbers
    ]


def any_text(chance: random.Random, said: Sequence[Said]) -> str:
    """Of 1 to 6 characters, mostly out of a subject."""
    subject = chance.choice(said).subject
    if len(subject) < 2 or chance.random() < 0.1:
        return chance.choice(("zz", "%", "_", "nowhere", "ß"))
    begin, text = chance.randrange(len(subject) - 1), subject
    text = text[begin : begin + chance.randint(1, 6)]
    return chance.choice((text, text.upper(), text.lower()))


def any_search(chance: random.Random, said: Sequence[Said]) -> Search:
    newest = max(one.number for one in said)

    def maybe(share: float, value: object) -> object:
        return value if chance.random() < share else None

    return Search(
        stream=chance.choice(STREAMS),
        subject=any_text(chance, said),
        sender=str(maybe(0.2, "b@example.com") or ""),
        recipient=str(maybe(0.3, chance.choice(("s@example.net", "@other.example"))) or ""),
        settled=None if chance.random() < 0.7 else chance.random() < 0.5,
        since_us=None if chance.random() < 0.7 else Said(0, "", at_s=chance.randrange(newest) - 1000).at_us,
        until_us=None if chance.random() < 0.7 else Said(0, "", at_s=chance.randrange(newest) - 1000).at_us,
        labels=(TAG,) if chance.random() < 0.2 else (),
    )


def fits(one: Said, wanted: Search) -> bool:
    return (
        one.stream == wanted.stream
        and folded(wanted.subject) in folded(one.subject)
        and wanted.sender in ("", one.sender)
        and one.address.endswith(wanted.recipient)
        and wanted.settled in (None, one.settled)
        and (wanted.since_us is None or one.at_us >= wanted.since_us)
        and (wanted.until_us is None or one.at_us < wanted.until_us)
        and (not wanted.labels or one.tagged)
    )


@pytest.mark.parametrize("seed", range(4))
async def test_it_finds_what_a_plain_look_at_everything_finds(ctx: Context, small: None, seed: int) -> None:
    """With none, with all, with a tail that no block speaks for, and with holes."""
    chance = random.Random(seed)
    numbers = sorted(chance.sample(range(1, 400), 150))
    said = crowd(chance, numbers[:110])
    await fill(ctx, said)

    async def compare(times: int) -> None:
        newest_first = sorted(said, key=lambda one: -one.number)
        for _ in range(times):
            wanted = any_search(chance, said)
            expected = [one.number for one in newest_first if fits(one, wanted)]
            assert (await pages(ctx, wanted, chance.randint(1, 30)))[0] == expected, wanted

    def holes() -> Work[None]:
        for _, first_id, _ in (yield from subjects.ranges()):
            if chance.random() < 0.3:
                yield Sql("DELETE FROM subject_blocks WHERE first_id = :id", {"id": first_id})

    await compare(8)
    assert await make(ctx, chance.randint(3, 12), *STREAMS) > 5
    await compare(30)
    said += crowd(chance, numbers[110:])
    await fill(ctx, said[110:])
    await compare(20)
    await ctx.store.write(holes)
    await compare(30)


@pytest.mark.parametrize("size", [1, 4, 50])
async def test_pages_of_a_list_end_inside_of_blocks(ctx: Context, small: None, size: int) -> None:
    said = [Said(number, "odd one" if number % 2 else "even") for number in range(1, 51)]
    await fill(ctx, said)
    assert await make(ctx, size, "outbound") == 50 // size
    found: list[int] = []
    before: int | None = None
    while True:
        listed = await messages.list_messages(
            ctx, Owner(ACCOUNT, SERVER), Search("outbound", subject="ODD"), limit=3, before=before
        )
        found += [one.message.message_id for one in listed.seen]
        before = listed.next_before
        if before is None:
            break
    assert found == list(range(49, 0, -2))


# --- further down, and its bounds ----------------------------------------------------------------------


async def test_what_is_old_is_found_where_walking_ends_before_it(ctx: Context, small: None) -> None:
    await fill(ctx, [Said(number, "once" if number == 2 else f"n{number}") for number in range(1, 61)])
    once = Search("outbound", subject="ONCE")
    part = await finding.find(ctx, ACCOUNT, SERVER, once, enough=1)
    assert (part.numbers, part.last) == ([], 61 - _SMALL["FIRST_SLICE"] - 2 * _SMALL["SLICE"])
    assert await make(ctx, 12, "outbound") == 5
    part = await finding.find(ctx, ACCOUNT, SERVER, once, enough=1)
    assert (part.numbers, part.last) == ([2], None)


async def test_the_same_beside_an_index_that_has_many(ctx: Context, small: None) -> None:
    said = [Said(number, "once" if number == 2 else "x", tagged=number % 2 == 0) for number in range(1, 61)]
    await fill(ctx, said)
    once = Search("outbound", subject="ONCE", labels=(TAG,))
    assert not (await finding.find(ctx, ACCOUNT, SERVER, once, enough=1)).numbers
    await make(ctx, 12, "outbound")
    assert (await finding.find(ctx, ACCOUNT, SERVER, once, enough=1)).numbers == [2]


async def test_it_stops_when_it_read_so_many_blocks_and_goes_on_from_there(ctx: Context, small: None) -> None:
    """A text of two characters is in no bitmap, so each block is read."""
    await fill(ctx, [Said(number, "ab" if number == 1 else "x") for number in range(1, 61)])
    assert await make(ctx, 6, "outbound") == 10
    short = Search("outbound", subject="ab")
    part = await finding.find(ctx, ACCOUNT, SERVER, short, enough=1)
    assert (part.numbers, part.last) == ([], 49)
    assert (await pages(ctx, short, 1))[0] == [1]


async def test_it_stops_when_it_passed_so_many_by(ctx: Context, small: None) -> None:
    await fill(ctx, [Said(number, "needle" if number == 1 else "hay") for number in range(1, 61)])
    assert await make(ctx, 4, "outbound") == 15
    found, count = await pages(ctx, Search("outbound", subject="needle"), 1)
    assert found == [1]
    assert 2 <= count <= 4


async def test_another_index_is_walked_as_far_as_ever_where_blocks_help_little(
    ctx: Context, small: None
) -> None:
    """All of a tag is less than may be looked at: without blocks it is found at once."""
    said = [Said(number, "ab" if number == 6 else "x", tagged=number % 6 == 0) for number in range(1, 73)]
    await fill(ctx, said)
    await make(ctx, 4, "outbound")
    wanted = Search("outbound", subject="ab", labels=(TAG,))
    part = await finding.find(ctx, ACCOUNT, SERVER, wanted, enough=100)
    assert (part.numbers, part.last) == ([6], None)


@pytest.mark.parametrize(("settled", "blocks", "rows"), [(None, 3, 0), (True, 1, 6)])
async def test_where_all_have_the_text_walking_costs_less_than_asking_of_each(
    ctx: Context, small: None, settled: bool | None, blocks: int, rows: int
) -> None:
    await fill(ctx, [Said(number, "xy") for number in range(1, 61)])
    await make(ctx, 4, "outbound")
    wanted = Search("outbound", subject="xy", settled=settled)

    def look() -> Work[subject_search.Step]:
        plan = yield from message_search.plan(ACCOUNT, SERVER, wanted)
        pace = subject_search.Pace(slice=6, bitmaps=9, blocks=3, crowded=3)
        return (yield from subject_search.look(plan, wanted, 57, 100, pace))

    step = await ctx.store.read(look)
    assert (step.effort.blocks, step.effort.rows) == (blocks, rows)
    assert step.found == list(range(56, 56 - len(step.found), -1))
    assert step.before == 57 - len(step.found)


async def test_it_ends_at_what_is_too_old(ctx: Context, small: None) -> None:
    """Within the blocks that may be read; the next one has messages too."""
    said = [Said(number, "xy" if number % 2 else "no", at_s=number - 1000) for number in range(1, 61)]
    await fill(ctx, said)
    await make(ctx, 6, "outbound")
    wanted = Search("outbound", subject="xy", since_us=Said(0, "", at_s=50 - 1000).at_us)
    part = await finding.find(ctx, ACCOUNT, SERVER, wanted, enough=100)
    assert (part.numbers, part.last) == (list(range(59, 50, -2)), None)


async def test_only_a_search_that_went_on_has_blocks_made(ctx: Context, small: None) -> None:
    await fill(ctx, [Said(number, "xy", tagged=number % 5 == 0) for number in range(1, 21)])
    noted: Callable[[], Sequence[StreamKey]] = lambda: ctx.subjects.since(0)  # noqa: E731
    await finding.find(ctx, ACCOUNT, SERVER, Search("outbound", subject="xy"), enough=1)
    assert not noted()
    few = Search("outbound", subject="xy", labels=(TAG,))  # which another index has
    for wanted in (Search("outbound"), Search("outbound", settled=True), Search(subject="xy"), few):
        await finding.find(ctx, ACCOUNT, SERVER, wanted, enough=10)
    await finding.find(ctx, ACCOUNT, None, Search("outbound", subject="xy"), enough=10)
    assert not noted()
    await finding.find(ctx, ACCOUNT, SERVER, Search("outbound", subject="xy"), enough=10)
    assert noted() == [StreamKey(ACCOUNT, SERVER, "outbound")]
