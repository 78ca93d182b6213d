"""The control socket: every answer and error crosses it as it is, and broken clients do not hurt."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from postroom.control import operations
from postroom.control.address import ControlSocket, socket_path
from postroom.control.client import NotListening, call
from postroom.control.desk import Desk
from postroom.control.operations import run
from postroom.control.peer import this_user, user
from postroom.control.protocol import (
    MOST_BYTES,
    InternalError,
    ProtocolError,
    error_from_json,
    error_to_json,
    frame,
    kind_of,
)
from postroom.control.server import ControlServer
from postroom.errors import (
    Conflict,
    Denied,
    FieldError,
    Invalid,
    Limited,
    NotFound,
    PostroomError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from postroom.ids import AccountId
from postroom.storage import audit
from tests.support.context import Harness


@pytest.fixture
async def folder(desk: Desk, tmp_path: Path) -> AsyncIterator[Path]:
    server = ControlServer(partial(run, desk), ControlSocket.bind(tmp_path))
    await server.start()
    yield tmp_path
    await server.stop()


async def test_an_operation_answers(folder: Path) -> None:
    made = await call(socket_path(folder), "account.create", {"name": "Ada"})
    assert made["name"] == "Ada"
    assert await call(socket_path(folder), "account.show", {"account": made["account_id"]}) == made


async def test_the_trail_says_which_user_asked(folder: Path, harness: Harness) -> None:
    await call(socket_path(folder), "account.create", {"name": "Ada"})
    (line,) = await harness.ctx.store.read(lambda: audit.list_lines(audit.Wanted(AccountId(1))))
    assert (line.actor, line.source) == ("command line", this_user())
    assert f"uid {os.getuid()}" in line.source


def test_a_user_without_a_name_is_told_by_number() -> None:
    assert user(4_000_000_000) == "uid 4000000000"


async def test_the_socket_is_the_owners_alone(folder: Path) -> None:
    assert socket_path(folder).stat().st_mode & 0o777 == 0o600


async def test_an_error_arrives_as_what_it_was(folder: Path) -> None:
    with pytest.raises(NotFound, match="account not found") as missing:
        await call(socket_path(folder), "account.show", {"account": 7})
    assert missing.value.kind == "account"
    with pytest.raises(Invalid) as wrong:
        await call(socket_path(folder), "account.create", {"name": " "})
    assert wrong.value.errors == (FieldError("name", "can't be blank"),)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"name": 5}, "Expected `str`"),
        ({}, "missing required field"),
        ({"name": "a", "colour": "red"}, "unknown field"),
        ([], "Expected `object`"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused(folder: Path, args: object, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        await _raw(folder, {"op": "account.create", "args": args})


async def test_an_unknown_operation_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFound, match=r"operation account\.steal"):
        await call(socket_path(folder), "account.steal", {})


async def test_a_fault_of_ours_says_nothing_of_its_cause(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(desk: Desk) -> None:
        raise RuntimeError("the password is hunter2")

    broken_operation = operations.Operation(broken, operations.TABLE["config"].arguments)
    monkeypatch.setattr(operations, "TABLE", {"config": broken_operation})
    with pytest.raises(InternalError) as told:
        await call(socket_path(folder), "config", {})
    assert "hunter2" not in str(told.value)


async def _raw(folder: Path, document: object) -> object:
    reader, writer = await asyncio.open_unix_connection(str(socket_path(folder)))
    writer.write(frame(document))
    length = struct.unpack(">I", await reader.readexactly(4))[0]
    answer = json.loads(await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    if "error" in answer:
        raise error_from_json(answer["error"])
    return answer["ok"]


@pytest.mark.parametrize(
    "hostile",
    [
        struct.pack(">I", MOST_BYTES + 1),
        struct.pack(">I", 4) + b"{{{{",
        struct.pack(">I", 60_000) + b"[" * 60_000,
        b"\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_not_the_protocol_ends_that_session_only(folder: Path, hostile: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(socket_path(folder)))
    writer.write(hostile)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert await call(socket_path(folder), "account.list", {}) == {"data": []}


async def test_nobody_listening_is_told_from_a_failure(tmp_path: Path) -> None:
    with pytest.raises(NotListening):
        await call(socket_path(tmp_path), "config", {})


async def test_a_server_that_ends_without_an_answer_leaves_it_unknown(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.close()
        await writer.wait_closed()

    path = tmp_path / "control.sock"
    async with await asyncio.start_unix_server(hang_up, str(path)):
        with pytest.raises(Unavailable, match=r"whether key\.revoke was done is not known"):
            await call(path, "key.revoke", {"key_id": 1})


async def test_stopping_finishes_what_runs_and_removes_the_socket(desk: Desk, tmp_path: Path) -> None:
    server = ControlServer(partial(run, desk), ControlSocket.bind(tmp_path))
    await server.start()
    asked = asyncio.create_task(call(socket_path(tmp_path), "account.create", {"name": "Ada"}))
    await asked
    await server.stop()
    assert not (tmp_path / "control.sock").exists()
    with pytest.raises(NotListening):
        await call(socket_path(tmp_path), "config", {})


async def test_a_socket_left_by_a_killed_process_is_replaced(desk: Desk, tmp_path: Path) -> None:
    left = ControlSocket.bind(tmp_path)
    left.listener.close()
    server = ControlServer(partial(run, desk), ControlSocket.bind(tmp_path))
    await server.start()
    assert await call(socket_path(tmp_path), "account.list", {}) == {"data": []}
    await server.stop()


async def test_a_folder_too_deep_for_a_socket_works_all_the_same(desk: Desk, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-rather-long-name"] * 4)
    deep.mkdir(parents=True)
    server = ControlServer(partial(run, desk), ControlSocket.bind(deep))
    await server.start()
    path = socket_path(deep)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(path)) < 108
    assert await call(path, "account.list", {}) == {"data": []}
    await server.stop()
    assert not path.parent.exists()
    assert socket_path(deep) == deep / "control.sock"


ERRORS = (
    Invalid.of([FieldError("name", "can't be blank"), FieldError("port", "is not a number")]),
    Unauthenticated("no key"),
    Denied("nobody has vouched"),
    NotFound("server"),
    Conflict("changed by somebody else"),
    TooLarge(5),
    Limited(9, "slower"),
    Unavailable("disk full", 60),
    InternalError(),
)


@pytest.mark.parametrize("error", ERRORS, ids=kind_of)
def test_every_error_comes_back_equal(error: PostroomError) -> None:
    again = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert error_to_json(again) == error_to_json(error)


def test_no_error_of_the_tree_lacks_a_kind() -> None:
    kinds = {kind_of(one) for one in ERRORS}
    direct = {one for one in PostroomError.__subclasses__() if one.__module__ == "postroom.errors"}
    assert {kind_of(error) for error in ERRORS if type(error) in direct} == kinds - {"internal"}
    assert direct <= {type(error) for error in ERRORS}


@pytest.mark.parametrize("told", [{}, {"kind": "purple", "text": "x"}, {"kind": "invalid", "text": "x"}])
def test_an_error_nobody_can_read_is_a_protocol_error(told: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        error_from_json(told)
