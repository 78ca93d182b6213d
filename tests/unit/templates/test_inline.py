"""CSS moved into elements: what comes out, what is never fetched, and that no document harms anybody (R2)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.errors import Unavailable
from postroom.templates.inline import InlineFailed, Inliner

RED = "<style>p { color: red }</style>"
PLAIN = f"{RED}<p>x</p>"
STYLED = f'<html><head>{RED}</head><body><p style="color: red;">x</p></body></html>'


@pytest.fixture
async def inliner() -> AsyncIterator[Inliner]:
    inliner = Inliner()
    yield inliner
    await inliner.close()


def pid(inliner: Inliner) -> int:
    assert inliner._child
    return inliner._child.pid


async def test_rules_move_into_the_elements_and_what_cannot_stays(inliner: Inliner) -> None:
    styles = "p { color: red } .b:hover { color: blue } @media (max-width: 9px) { p { color: green } }"
    document = (
        f'<!DOCTYPE html><html><head><style>{styles}</style></head><body><p class="b">x</p></body></html>'
    )
    assert await inliner.inline(document) == document.replace(
        '<p class="b">', '<p class="b" style="color: red;">'
    )


async def test_an_elements_own_style_wins_but_not_over_important(inliner: Inliner) -> None:
    styles = "<style>p { color: red; margin: 0 } i { color: red !important }</style>"
    done = await inliner.inline(f'{styles}<p style="color: blue">x<i style="color: blue">y</i></p>')
    assert '<p style="margin: 0;color: blue">' in done
    assert '<i style="color: red !important">' in done


@pytest.mark.parametrize("document", ["", "<p>x", "<P CLASS=a>é&nbsp;</P>", "<styles>", "a\0b\ud800"])
async def test_without_styles_a_document_stays_as_it_is(inliner: Inliner, document: str) -> None:
    assert await inliner.inline(document) == document
    assert inliner._child is None


async def test_text_and_placeholders_stay_what_they_are(inliner: Inliner) -> None:
    link = '<a href="{{{ pm:unsubscribe }}}">x</a> {{{ pm:unsubscribe label="go" }}}'
    text = f"é愛😀\u00a0{link} <!--[if mso]><i>y</i><![endif]-->"
    done = await inliner.inline(f"{RED}<p>{text}</p>")
    assert text.replace("\u00a0", "&nbsp;") in done


@pytest.mark.parametrize("tag", ["<STYLE>", '<style type="text/css">', "<style\n>"])
async def test_styles_are_found_however_written(inliner: Inliner, tag: str) -> None:
    assert 'style="color: red;"' in await inliner.inline(f"{tag}p {{ color: red }}</style><p>x</p>")


async def test_nothing_is_fetched_and_no_file_read(inliner: Inliner, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (tmp_path / "a.css").write_text("p { color: seen }")
    places = [
        f"http://127.0.0.1:{port}/a.css",
        f"//127.0.0.1:{port}/a.css",
        f"file://{tmp_path}/a.css",
        f"{tmp_path}/a.css",
    ]
    links = "".join(f'<link rel="stylesheet" href="{place}">' for place in places)
    imports = "".join(f'@import url("{place}");' for place in places)
    async with server:
        done = await inliner.inline(f"{links}<style>{imports} p {{ color: red }}</style><p>x</p>")
        assert 'p style="color: red;"' in done
        assert "seen" not in done
        assert all(f'<link rel="stylesheet" href="{place}">' in done for place in places)
        # Whoever has answered this many documents after it would have asked by then.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()
        writer.close()
    assert asked.is_set()  # by us: the server works


async def test_one_child_serves_many_documents(inliner: Inliner) -> None:
    assert await asyncio.gather(*(inliner.inline(f"{PLAIN}{n}") for n in range(20))) == [
        STYLED.replace("</p>", f"</p>{n}") for n in range(20)
    ]
    first = pid(inliner)
    assert await inliner.inline(PLAIN) == STYLED
    assert pid(inliner) == first


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(RED + "<div>" * 30_000, id="deep"),
        pytest.param(RED + "<div>" * 300_000, id="deeper"),
        pytest.param(RED + "".join(f"<p><b x={n}></p>" for n in range(60_000)), id="reopened"),
        pytest.param(
            "<style>" + "".join(f"p{{a{n}:1}}" for n in range(3000)) + "</style>" + "<p>a</p>" * 3000,
            id="rules",
        ),
        pytest.param("<style>p{a:" + "x" * 10_000 + "}</style>" + "<p>a</p>" * 100_000, id="amplified"),
        pytest.param("<style>p{a:" + "x" * 10_000 + "}</style>" + "<p>a</p>" * 1100, id="long"),
    ],
)
async def test_r2_a_document_that_is_too_much_harms_only_itself(inliner: Inliner, document: str) -> None:
    with pytest.raises(InlineFailed, match=r"too much work|longer than 10,000,000 bytes"):
        await inliner.inline(document)
    assert await inliner.inline(PLAIN) == STYLED


@pytest.mark.parametrize(
    "document",
    [
        RED + "<p>hello</p>" * 80_000,
        RED + "<table>" * 1000,
        RED + "<p " + " ".join(f"a{n}=1" for n in range(10_000)) + ">",
        "<style>" + "@media x{" * 50_000 + "}</style><p>",
        "<style>" + ":not(" * 50_000 + "p</style><p>",
        "<style>p{" + "{" * 50_000 + "}</style><p>",
        "<style>p{width:" + "calc(" * 50_000 + "1</style><p>",
        "<style>" + "p~" * 500 + "i{a:b}</style>" + "<p></p>" * 2000 + "<i>",
        "<style>p{color:red",
        "<style><!-- p{color:red} -->",
        "<style>p{background:url('</style><p>x",
        "<style>\0p{color:\0red}</style>a\0b<p\0>",
    ],
)
async def test_r2_odd_documents_come_back(inliner: Inliner, document: str) -> None:
    assert await inliner.inline(document)


async def test_half_a_character_is_refused(inliner: Inliner) -> None:
    with pytest.raises(InlineFailed, match="surrogate"):
        await inliner.inline(f"{RED}\ud800")


async def test_after_a_large_document_the_child_is_a_new_one(inliner: Inliner) -> None:
    await inliner.inline(PLAIN)
    first = pid(inliner)
    await inliner.inline(RED + "<p>" + "x" * (1 << 20))
    assert await inliner.inline(PLAIN) == STYLED
    assert pid(inliner) != first


async def test_a_child_that_was_killed_is_replaced(inliner: Inliner) -> None:
    await inliner.inline(PLAIN)
    os.kill(pid(inliner), signal.SIGKILL)
    with pytest.raises(InlineFailed):
        await inliner.inline(PLAIN)
    assert await inliner.inline(PLAIN) == STYLED


async def test_the_child_leaves_the_signals_of_the_group_to_us(inliner: Inliner) -> None:
    await inliner.inline(PLAIN)
    first = pid(inliner)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(first, number)
    assert await inliner.inline(PLAIN) == STYLED
    assert pid(inliner) == first


async def test_a_reply_nobody_waits_for_is_not_taken_for_the_next(inliner: Inliner) -> None:
    await inliner.inline(PLAIN)
    first = pid(inliner)
    os.kill(first, signal.SIGSTOP)
    waiting = asyncio.create_task(inliner.inline(f"{PLAIN}other"))
    while not inliner._turn.locked():
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await inliner.inline(PLAIN) == STYLED
    assert pid(inliner) != first


async def test_a_child_that_does_not_answer_is_given_up() -> None:
    inliner = Inliner(wait_s=30)
    await inliner.inline(PLAIN)
    os.kill(pid(inliner), signal.SIGSTOP)
    inliner._wait_s = 0
    with pytest.raises(InlineFailed, match="too much work"):
        await inliner.inline(PLAIN)
    inliner._wait_s = 30
    assert await inliner.inline(PLAIN) == STYLED
    await inliner.close()


async def test_the_child_ends_when_we_close_and_may_be_needed_again(inliner: Inliner) -> None:
    await inliner.inline(PLAIN)
    child = inliner._child
    await inliner.close()
    await inliner.close()
    assert child
    assert child.returncode == 0
    assert await inliner.inline(PLAIN) == STYLED


async def test_no_child_can_be_started(
    inliner: Inliner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    with pytest.raises(Unavailable, match="cannot be started"):
        await inliner.inline(PLAIN)
