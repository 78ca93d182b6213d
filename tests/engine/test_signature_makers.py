"""Signatures are right whoever makes them, and whatever happens to the process that makes many of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from postroom.engine import sign_process
from postroom.engine.sign_child import HEADER, SIGN
from postroom.engine.sign_process import SignProcess, SignProcessGone
from postroom.engine.signature_makers import SignatureMakers
from postroom.mail.dkim import Signer, Unsigned, signature_of
from tests.support.dkim_corpus import signers_of

RSA, ED25519 = signers_of("example.com")
DIGESTS = [bytes([n]) * 32 for n in range(40)]


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.005)


def child_of(process: SignProcess | None) -> int:
    assert process is not None
    assert process.pid is not None
    return process.pid


async def signed(makers: SignatureMakers, signer: Signer = RSA) -> None:
    """Many at once, each of which is right."""
    fields = [Unsigned(signer, b"", digest) for digest in DIGESTS]
    made = await asyncio.gather(*(makers.signature(one) for one in fields))
    assert made == [signature_of(signer.key, digest) for digest in DIGESTS]


@pytest.fixture
async def makers() -> AsyncIterator[SignatureMakers]:
    made = SignatureMakers(look_s=0.2, again_s=0.0)
    yield made
    await made.close()


@pytest.fixture
async def process() -> AsyncIterator[SignProcess]:
    made = SignProcess()
    await made.start()
    yield made
    await made.close()


async def test_many_at_once_get_a_process_and_few_do_not(makers: SignatureMakers) -> None:
    for digest in DIGESTS[:3]:
        await makers.signature(Unsigned(RSA, b"", digest))
    await signed(makers, ED25519)
    assert makers.process is None
    assert not makers.starts
    await signed(makers)
    await until(lambda: makers.process is not None)
    assert makers.process is not None
    before = makers.process.answers
    await signed(makers)
    assert makers.process.answers - before == len(DIGESTS)


async def test_what_a_killed_process_did_not_sign_threads_sign_and_another_is_started(
    makers: SignatureMakers,
) -> None:
    await signed(makers)
    await until(lambda: makers.process is not None)
    first = child_of(makers.process)
    signing = asyncio.create_task(signed(makers))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    await signing
    await until(lambda: makers.process is None)
    await until(lambda: not makers.starts)
    await signed(makers)
    await until(lambda: makers.process is not None)
    assert child_of(makers.process) != first


async def test_a_process_that_answers_nothing_is_given_up(makers: SignatureMakers) -> None:
    await signed(makers)
    await until(lambda: makers.process is not None)
    os.kill(child_of(makers.process), signal.SIGSTOP)
    stuck = makers.process
    await signed(makers)
    await until(lambda: makers.process is not stuck)


async def test_one_that_is_asked_nothing_ends() -> None:
    makers = SignatureMakers(look_s=0.05, idle_s=0.1)
    try:
        await signed(makers)
        await until(lambda: makers.process is not None)
        child = child_of(makers.process)
        await until(lambda: makers.process is None)
        await until(lambda: not makers.starts)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
        await signed(makers)
    finally:
        await makers.close()


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent/python"])
async def test_where_no_process_can_be_started_threads_sign(
    program: str, makers: SignatureMakers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    await signed(makers)
    await until(lambda: not makers.starts)
    await signed(makers)
    assert makers.process is None
    assert "the process that makes signatures is gone" in caplog.text


async def test_a_signal_for_all_does_not_end_it_and_the_end_of_our_side_does(process: SignProcess) -> None:
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child_of(process), one)
    assert await process.sign(RSA.key, DIGESTS[0]) == signature_of(RSA.key, DIGESTS[0])
    waiting = asyncio.create_task(process.sign(RSA.key, DIGESTS[1]))
    await asyncio.sleep(0)
    await process.close()
    with pytest.raises(SignProcessGone):
        await waiting
    assert process.returncode == 0
    with pytest.raises(SignProcessGone):
        await process.sign(RSA.key, DIGESTS[2])


async def test_a_key_that_is_to_be_forgotten_is(process: SignProcess) -> None:
    await process.sign(RSA.key, DIGESTS[0])
    process.forget()
    assert process._link is not None
    process._link._say(HEADER.pack(SIGN, 0, 32) + DIGESTS[0])
    process._link.asked.append(forgotten := asyncio.get_running_loop().create_future())
    with pytest.raises(SignProcessGone):
        await forgotten
    assert await process.sign(RSA.key, DIGESTS[0]) == signature_of(RSA.key, DIGESTS[0])


async def test_more_keys_than_are_kept(process: SignProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_process, "_MOST_KEYS", 1)
    other = signers_of("example.com")[1].key
    for key in (RSA.key, other, RSA.key):
        assert await process.sign(key, DIGESTS[0]) == signature_of(key, DIGESTS[0])
    asked = [process.sign(key, digest) for digest in DIGESTS for key in (RSA.key, other)]
    expected = [signature_of(key, digest) for digest in DIGESTS for key in (RSA.key, other)]
    assert await asyncio.gather(*asked) == expected


async def test_a_digest_that_is_none_has_no_signature_and_others_do(process: SignProcess) -> None:
    bad, good = await asyncio.gather(
        process.sign(RSA.key, b"short"), process.sign(RSA.key, DIGESTS[0]), return_exceptions=True
    )
    assert isinstance(bad, SignProcessGone)
    assert good == signature_of(RSA.key, DIGESTS[0])


async def test_who_goes_away_before_the_answer_takes_nothing_from_others(process: SignProcess) -> None:
    asked = [asyncio.create_task(process.sign(RSA.key, digest)) for digest in DIGESTS]
    await asyncio.sleep(0)
    asked[0].cancel()
    made = await asyncio.gather(*asked, return_exceptions=True)
    assert made[1:] == [signature_of(RSA.key, digest) for digest in DIGESTS[1:]]


async def test_a_key_that_was_forgotten_meanwhile_is_not_told_again(makers: SignatureMakers) -> None:
    await signed(makers)
    await until(lambda: makers.process is not None)
    assert makers.process is not None
    before = makers.process.answers
    field = Unsigned(RSA, b"", DIGESTS[0])
    assert await makers.signature(field, current=False) == signature_of(RSA.key, DIGESTS[0])
    assert makers.process.answers == before
    assert await makers.signature(field) == signature_of(RSA.key, DIGESTS[0])
    assert makers.process.answers == before + 1


async def test_an_end_that_is_cut_short_leaves_no_process(process: SignProcess) -> None:
    child = child_of(process)
    os.kill(child, signal.SIGSTOP)
    ending = asyncio.create_task(process.close())
    await asyncio.sleep(0.01)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_nothing_of_the_folder_it_is_started_in_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cryptography.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    process = SignProcess()
    await process.start()
    assert process.ready
    await process.close()
