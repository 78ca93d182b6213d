"""Every stage's every trouble, against a running engine: the table, cell by cell."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from postroom.core.message import DeliveryState, Purpose
from postroom.transports.interface import Phase, Result
from tests.delivery.faults import play
from tests.delivery.faults.peers import peer, stage
from tests.delivery.faults.table import ANSWERS, MATRIX, Answer, Row, Trouble, matrix, render
from tests.support.certs import Certs
from tests.support.fault_bench import FaultBench, fault_bench
from tests.support.scripted_smtp import ScriptedServer

DOCS = Path(__file__).parents[3] / "docs" / "faults.md"
DELIVERY = DOCS.with_name("delivery.md")
BODY = "A line of a body that is too long for the buffers between us and the peer.\n" * 20_000
PHASES = {
    Row.AUTH: Phase.MAIL,  # the session came about, and was broken when its first MAIL was to be said
    Row.MAIL: Phase.MAIL,
    Row.RCPT: Phase.RCPT,
    Row.DATA: Phase.DATA,
    Row.BODY: Phase.BODY,
}


def test_the_docs_show_this_table() -> None:
    assert DOCS.read_text("utf-8") == render(), "run: python -m tests.delivery.faults.table > docs/faults.md"


def test_the_page_on_delivery_has_the_matrix() -> None:
    assert f"\n\n{matrix()}\n\n" in DELIVERY.read_text("utf-8"), "copy the matrix out of docs/faults.md"


def test_every_stage_and_every_trouble_is_there() -> None:
    assert {row for row, _ in MATRIX} == set(Row)
    assert {trouble for _, trouble in MATRIX} == set(Trouble)
    missing = {(row, trouble) for row in Row for trouble in Trouble} - set(MATRIX)
    assert {row for row, _ in missing} == {Row.CONNECT, Row.BODY}  # where there is no reply to spoil


AHEAD = {
    Row.MAIL: Phase.RCPT,
    Row.RCPT: Phase.DATA,
}  # the reply itself was good, the next command is not said


def _phase(row: Row, trouble: Trouble, answer: Answer) -> Phase:
    phase = (AHEAD if trouble is Trouble.EARLY else PHASES).get(row, PHASES.get(row, Phase.DONE))
    if row in (Row.DOT, Row.DOT_BULK):
        return Phase.DOT if answer.result is Result.UNKNOWN else Phase.DONE
    return Phase.DONE if answer.result is Result.SENT else phase


@pytest.mark.parametrize(("row", "trouble"), MATRIX, ids=[f"{row}-{trouble}" for row, trouble in MATRIX])
async def test_cell(row: Row, trouble: Trouble, certs: Certs, trust: ssl.SSLContext, tmp_path: Path) -> None:
    answer = ANSWERS[MATRIX[row, trouble]]
    bulk = row is Row.DOT_BULK
    ours = Purpose.BROADCAST if bulk else Purpose.TRANSACTIONAL
    theirs = Purpose.TRANSACTIONAL if bulk else Purpose.BROADCAST
    async with (
        peer(row, trouble, certs) as faulty,
        ScriptedServer() as well,
        fault_bench(tmp_path) as post,
    ):
        server = faulty.server
        first = await post.way_out(faulty.port, [ours], context=trust, timeouts=faulty.timeouts)
        await post.way_out(well, [theirs])
        message = await post.mail(ours, ["first@example.net"], text=BODY if row is Row.BODY else "hello")
        if row is Row.QUIT:
            await play.until(lambda: _is_sent(post))
            post.time.advance(31.0)  # idle for as long as a session may be
        if faulty.port == server.port:
            await server.until(lambda s: stage(row, trouble) in s.met, 15.0)
        neighbour = await post.mail(theirs, ["neighbour@example.net"])
        await well.until(lambda s: bool(s.messages), 15.0)
        if trouble is Trouble.HANG and row is not Row.QUIT:
            assert not await play.at_rest(post, first, message), "the neighbour waited for the one that hangs"
        await play.until(lambda: play.at_rest(post, first, message))
        await play.until(lambda: _idle(post))
        await play.until(lambda: _ended(post, neighbour))
        play.check(await play.look(post, first, message), answer, _phase(row, trouble, answer))
        await post.check_books()

        post.moved[faulty.port] = server.port
        assert await play.pass_time(post, first, message) is answer.ends
        assert play.copies(server, "first@example.net") == answer.copies
        if answer.copies > 1:
            assert len(play.message_ids(server)) == 1
        await play.check_it_works(post, first, ours)
        play.check_no_clear_login(server)


async def _is_sent(post: FaultBench) -> bool:
    return (await post.states())["sent"] == 1


async def _idle(post: FaultBench) -> bool:
    return all(not runner._opening for runner in post.engine._runners.values())


async def _ended(post: FaultBench, message: int) -> bool:
    state = await post.value("SELECT state FROM deliveries WHERE message_id = :m", m=message)
    return bool(state == DeliveryState.SENT)
