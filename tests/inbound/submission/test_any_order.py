"""S25: commands in any order, on two sessions at once: never a traceback, never a state in the wrong session.

A model of ten lines says what each reply may be; what is stored must be exactly what the model said yes to.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.inbound.submission.desk import MAIL, Desk, Dialogue, dialogue, open_desk, plain

WORDS = [
    "ehlo",
    "helo",
    "auth",
    "wrong",
    "mail",
    "null",
    "rcpt",
    "rcpt2",
    "data",
    "rset",
    "noop",
    "vrfy",
    "garbage",
    "bytes",
]


@dataclass
class Model:
    """What one session is, as far as its replies tell."""

    greeted: bool = False
    extended: bool = False
    logged_in: bool = False
    sender: bool = False
    recipients: int = 0
    yes: int = 0

    def clear(self) -> None:
        self.sender, self.recipients = False, 0


async def step(client: Dialogue, model: Model, word: str, key: str) -> None:
    if word in ("ehlo", "helo"):
        assert (await client.say(word.encode() + b" me"))[:3] == "250"
        model.greeted, model.extended = True, word == "ehlo"
        model.clear()
    elif word in ("auth", "wrong"):
        text = key if word == "auth" else "nonsense"
        code = (await client.say(b"AUTH PLAIN " + plain(text, text)))[:3]
        may = model.extended and not model.logged_in
        assert code == (("235" if word == "auth" else "535") if may else "503")
        model.logged_in |= code == "235"
    elif word in ("mail", "null"):
        line = b"MAIL FROM:<shop@example.com>" if word == "mail" else b"MAIL FROM:<>"
        code = (await client.say(line))[:3]
        may = model.greeted and model.logged_in and not model.sender
        assert code == ("250" if may else "530" if model.greeted and not model.logged_in else "503")
        model.sender |= may
    elif word in ("rcpt", "rcpt2"):
        code = (await client.say(f"RCPT TO:<{word}@example.net>".encode()))[:3]
        assert code == ("250" if model.sender else "530" if model.greeted and not model.logged_in else "503")
        model.recipients += code == "250"
    elif word == "data":
        code = (await client.say(b"DATA"))[:3]
        if model.recipients:
            assert code == "354"
            assert (await client.say(MAIL + b"."))[:3] == "250"
            model.yes += 1
            model.clear()
        else:
            assert code == ("530" if model.greeted and not model.logged_in else "503")
    elif word == "rset":
        assert (await client.say(b"RSET"))[:3] == "250"
        model.clear()
    else:
        line = {"noop": b"NOOP", "vrfy": b"VRFY x", "garbage": b"GARBAGE x", "bytes": b"\xff\0\x80 x"}[word]
        assert (await client.say(line))[:3] == {"noop": "250", "vrfy": "252"}.get(word, "500")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Desk]]:
    """One desk for all examples."""
    with asyncio.Runner() as runner:
        opening = open_desk(tmp_path)
        desk = runner.run(anext_of(opening))
        yield runner, desk
        runner.run(end_of(opening))


async def anext_of(opening: AbstractAsyncContextManager[Desk]) -> Desk:
    return await opening.__aenter__()


async def end_of(opening: AbstractAsyncContextManager[Desk]) -> None:
    await opening.__aexit__(None, None, None)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(WORDS)), min_size=5, max_size=60))
@settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_s25_any_order_on_two_sessions(
    running: tuple[asyncio.Runner, Desk], caplog: pytest.LogCaptureFixture, steps: list[tuple[bool, str]]
) -> None:
    runner, desk = running
    runner.run(play(desk, steps))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def play(desk: Desk, steps: list[tuple[bool, str]]) -> None:
    before = len(await desk.key_ids())
    desk.clock.advance(3600)  # forgives the failed logins of the example before
    models = (Model(), Model())
    async with dialogue(desk.port) as first, dialogue(desk.port) as second:
        for client in (first, second):
            assert (await client.reply())[:3] == "220"
        garbage = Counter(which for which, word in steps if word == "garbage")
        wrong = sum(word == "wrong" for _, word in steps)
        assume(max(garbage.values(), default=0) < 10 and wrong < 10)
        for which, word in steps:
            await step((first, second)[which], models[which], word, desk.text)
    assert len(await desk.key_ids()) - before == models[0].yes + models[1].yes
