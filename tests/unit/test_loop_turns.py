"""Turns on the event loop: one in two rounds, by turns of those who have any, nobody forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from postroom.loop_turns import LoopTurns


@contextmanager
def rounds() -> Iterator[list[int]]:
    """Counts the rounds of the loop into the one number it gives."""
    count = [0]

    async def turning() -> None:
        while True:
            count[0] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(turning())
    try:
        yield count
    finally:
        task.cancel()


async def test_each_piece_has_a_round_of_its_own_and_the_next_belongs_to_others() -> None:
    turns, when = LoopTurns(), []

    async def piece() -> None:
        await turns.turn("one")
        when.append(count[0])

    with rounds() as count:
        await asyncio.gather(*(piece() for _ in range(50)))
    assert when == list(range(when[0], when[0] + 100, 2))


async def test_who_has_few_pieces_waits_for_one_of_each_other_only() -> None:
    turns, order = LoopTurns(), []

    async def piece(whose: str, number: int) -> None:
        await turns.turn(whose)
        order.append((whose, number))

    many = [("much", number) for number in range(20)]
    few = [("little", number) for number in range(3)] + [("one", 0)]
    await asyncio.gather(*(piece(*one) for one in many + few))
    assert order[:7] == [
        ("much", 0), ("little", 0), ("one", 0), ("much", 1), ("little", 1), ("much", 2), ("little", 2),
    ]  # fmt: skip
    assert order[7:] == many[3:]


async def test_who_goes_away_before_its_turn_holds_up_nobody() -> None:
    turns, had = LoopTurns(), []

    async def piece(number: int) -> None:
        await turns.turn("one")
        had.append(number)

    tasks = [asyncio.create_task(piece(number)) for number in range(6)]
    await asyncio.sleep(0)
    for gone in (0, 2, 3, 5):
        tasks[gone].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert had == [1, 4]
    await asyncio.wait_for(piece(9), 5)  # and it goes round again after it stood still
    assert had == [1, 4, 9]


async def test_those_who_went_away_cost_the_others_of_the_same_no_turn() -> None:
    turns, had = LoopTurns(), []

    async def piece(whose: str) -> None:
        await turns.turn(whose)
        had.append(whose)

    tasks = [asyncio.create_task(piece(whose)) for whose in "aaaaaaabbbbbbb"]
    await asyncio.sleep(0)
    for gone in range(6):
        tasks[gone].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert had[:2] == ["a", "b"]


async def test_who_comes_while_others_have_their_turns_gets_one_too() -> None:
    turns, had = LoopTurns(), []

    async def chain(whose: str, more: int) -> None:
        for number in range(more):
            await turns.turn(whose)
            had.append((whose, number))

    await asyncio.gather(chain("a", 5), chain("b", 5))
    assert had == [(whose, number) for number in range(5) for whose in "ab"]
