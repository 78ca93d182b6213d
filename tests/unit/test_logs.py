"""Logging: where lines go, how they look, and what never gets into them; the wrapper for secret texts."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import logging
import pickle
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from postroom import logs
from postroom.secret import BULLETS, Secret

LIBRARIES = (
    "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "litestar", "alembic", "py.warnings",
    "mail.log", "mail.debug", "asyncio", "sqlalchemy",
)  # fmt: skip
KEY = "prs_abcdefghijkmnpqrstuvwxyz23456789abcd"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A place for lines; the logging of the whole process is put back afterwards."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    libraries = [logging.getLogger(name) for name in LIBRARIES]
    before = [(library, library.level, library.handlers[:], library.propagate) for library in libraries]
    try:
        yield io.StringIO()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.raiseExceptions = raises
        logging.captureWarnings(False)
        for library, own_level, own_handlers, propagate in before:
            library.handlers[:] = own_handlers
            library.propagate = propagate
            library.setLevel(own_level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:  # parsed JSON
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def logged(stream: io.StringIO, event: str = "tried", /, **values: object) -> dict[str, Any]:  # parsed JSON
    logs.configure("info", json=True, stream=stream)
    logs.logger("engine").info(event, **values)
    return lines(stream)[-1]


def test_a_json_line_has_event_level_area_time_and_values(stream: io.StringIO) -> None:
    line = logged(
        stream, "session opened", connection_id=7, host="mx.example", took_s=0.25, ok=True, none=None
    )

    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "session opened",
        "level": "info",
        "logger": "postroom.engine",
        "connection_id": 7,
        "host": "mx.example",
        "took_s": 0.25,
        "ok": True,
        "none": None,
    }


def test_a_console_line_is_readable_and_without_colours_off_a_terminal(stream: io.StringIO) -> None:
    logs.configure("info", json=False, stream=stream)
    logs.logger("engine").warning("session lost", host="mx.example", password="hunter2")

    assert "session lost" in stream.getvalue()
    assert "[postroom.engine]" in stream.getvalue()
    assert "host=mx.example" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_colours_on_a_terminal(stream: io.StringIO) -> None:
    terminal = Terminal()
    logs.configure("info", json=False, stream=terminal)
    logs.logger("engine").info("hello")

    assert "\x1b[" in terminal.getvalue()


def test_lines_go_to_stderr_by_default(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json=True)
    logs.logger("cli").info("hello")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "hello"


def test_the_level_holds_and_may_change(stream: io.StringIO) -> None:
    for level in ("warning", "debug"):
        logs.configure(level, json=True, stream=stream)
        for method in ("debug", "info", "warning", "error"):
            getattr(logs.logger("engine"), method)(f"{level} {method}")

    assert [line["event"] for line in lines(stream)] == [
        "warning warning", "warning error", "debug debug", "debug info", "debug warning", "debug error",
    ]  # fmt: skip


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(
        ValueError, match="'loud' is not a log level; write one of debug, info, warning, error"
    ):
        logs.configure("loud")


@pytest.mark.parametrize(
    ("log_format", "stream", "expected"),
    [
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
    ],
)
def test_wants_json(log_format: str, stream: io.StringIO, expected: bool) -> None:
    assert logs.wants_json(log_format, stream) is expected


@pytest.mark.parametrize(
    "name",
    [
        "password", "smtp_password", "imapPassword", "PASSWD", "token", "accessToken", "Set-Cookie", "cookie",
        "X-Postmark-Server-Token", "key", "api_key", "apikey", "private_key", "secret", "client_secret",
        "Authorization", "authorization_header", "body", "html_body", "HtmlBody", "content", "credentials",
    ],
)  # fmt: skip
def test_values_under_secret_names_become_bullets(stream: io.StringIO, name: str) -> None:
    line = logged(stream, **{name: "hunter2", "nested": {"deep": [{name: "hunter2"}]}, "number": 1})

    assert line[name] == BULLETS
    assert line["nested"] == {"deep": [{name: BULLETS}]}
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "key_id",
        "token_kind",
        "content_type",
        "body_bytes",
        "password_file",
        "keyboard",
        "monkey",
        "bodyguard",
        "host",
    ],
)
def test_names_that_only_tell_about_a_secret_are_shown(stream: io.StringIO, name: str) -> None:
    assert logged(stream, **{name: "plain to see"})[name] == "plain to see"


def test_whether_a_secret_is_set_may_be_shown(stream: io.StringIO) -> None:
    line = logged(stream, password=None, token=True)

    assert (line["password"], line["token"]) == (None, True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {KEY} is revoked", f"key prs_{BULLETS} is revoked"),
        (KEY.upper(), f"PRS_{BULLETS}"),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {BULLETS}"),
        ("basic dXNlcjpwdw==", f"basic {BULLETS}"),
        ("> AUTH PLAIN AHVzZXIAcGFzcw==", f"> AUTH PLAIN {BULLETS}"),
        ("postgresql://postroom:hunter2@db:5432/x", f"postgresql://postroom:{BULLETS}@db:5432/x"),
        ("https://example.com:8080/a@b", "https://example.com:8080/a@b"),
    ],
)
def test_secrets_inside_texts_are_masked(stream: io.StringIO, text: str, shown: str) -> None:
    line = logged(stream, text, note=[text], error=ValueError(text))

    assert line["event"] == shown
    assert line["note"] == [shown]
    assert line["error"] == shown


def test_a_secret_at_the_cut_is_masked(stream: io.StringIO) -> None:
    line = logged(stream, note="x " * (logs.MOST_CHARACTERS // 2 - 5) + KEY)

    assert KEY[4:8] not in line["note"]


def test_a_traceback_has_lines_but_no_values_of_variables(stream: io.StringIO) -> None:
    logs.configure("info", json=True, stream=stream)
    hidden = "".join(("hun", "ter2"))
    for name in ("postroom.engine", "uvicorn.error"):
        try:
            raise ValueError(f"no login with {KEY}" if hidden else "")
        except ValueError:
            if name.startswith("postroom"):
                logs.logger("engine").exception("failed", host="mx.example")
            else:
                logging.getLogger(name).exception("failed")

    ours, theirs = lines(stream)
    for line in (ours, theirs):
        assert line["event"] == "failed"
        assert "Traceback (most recent call last):\n" in line["exception"]
        assert f"ValueError: no login with prs_{BULLETS}" in line["exception"]
    assert ours["host"] == "mx.example"
    assert "hunter2" not in stream.getvalue()


def test_a_console_traceback_has_no_values_of_variables(stream: io.StringIO) -> None:
    logs.configure("info", json=False, stream=stream)
    hidden = "".join(("hun", "ter2"))
    try:
        raise ValueError("broken" if hidden else "")
    except ValueError:
        logs.logger("engine").exception("failed")

    assert "ValueError: broken" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_no_line_can_be_forged_and_no_terminal_tricked(stream: io.StringIO, as_json: bool) -> None:
    nasty = "a\r\nb\x1b[2J\x00\x9b\u2028\u202e"
    logs.configure("info", json=as_json, stream=stream)
    logs.logger("inbound").info(nasty, reply=nasty, **{f"na{nasty}me": 1})
    logging.getLogger("mail.log").warning("%s", nasty)

    assert len(stream.getvalue().splitlines()) == 2
    assert not set("\r\x1b\x00\x9b\u2028\u202e") & set(stream.getvalue())


def test_long_deep_and_odd_values_are_bounded(stream: io.StringIO) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    deep: list[object] = []
    deep.append(deep)
    line = logged(
        stream, long="x" * 1_000_000, wide=list(range(1_000)), deep=deep, raw=b"123", mail=b"12345",
        odd=Broken(), lone="\ud800", many={str(n): n for n in range(1_000)},
    )  # fmt: skip

    assert line["long"] == "x" * logs.MOST_CHARACTERS + "… (1000000 characters)"
    assert line["wide"] == list(range(50))
    assert len(line["many"]) == 50
    assert json.dumps(line["deep"], ensure_ascii=False) == "[" * 6 + '"…"' + "]" * 6
    assert (line["raw"], line["mail"]) == (BULLETS, "<5 bytes>")
    assert line["odd"] == "<Broken, whose repr raised RuntimeError>"
    assert line["lone"] == "\\ud800"


def test_masking_a_hostile_text_is_quick(stream: io.StringIO) -> None:
    started = time.process_time()
    for text in ("://a:" * 20_000, "bearer " * 20_000, "pr" * 50_000, "://" + "a" * 100_000):
        logged(stream, note=text)

    assert time.process_time() - started < 1


def test_libraries_go_through_the_same_formatter(stream: io.StringIO) -> None:
    uvicorn = logging.getLogger("uvicorn.error")
    own = logging.StreamHandler(io.StringIO())
    uvicorn.addHandler(own)
    uvicorn.propagate = False
    logs.configure("info", json=True, stream=stream)
    for name in ("uvicorn.error", "litestar", "mail.log", "asyncio", "alembic.runtime"):
        logging.getLogger(name).warning("from %s with Bearer %s", name, "abcdefgh")

    assert [(line["logger"], line["level"]) for line in lines(stream)] == [
        (name, "warning") for name in ("uvicorn.error", "litestar", "mail.log", "asyncio", "alembic.runtime")
    ]
    assert lines(stream)[0]["event"] == f"from uvicorn.error with Bearer {BULLETS}"
    assert own not in uvicorn.handlers


@pytest.mark.parametrize("name", ["mail.log", "asyncio", "sqlalchemy.engine", "uvicorn.access"])
def test_chatter_that_may_hold_credentials_stays_off_at_debug(stream: io.StringIO, name: str) -> None:
    logs.configure("debug", json=True, stream=stream)
    logging.getLogger(name).info("auth_PLAIN returned hunter2")
    logging.getLogger("litestar").debug("seen")

    assert [line["event"] for line in lines(stream)] == ["seen"]


def test_warnings_are_logged(stream: io.StringIO) -> None:
    logs.configure("info", json=True, stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old ways", UserWarning, stacklevel=1)

    assert "old ways" in lines(stream)[0]["event"]
    assert lines(stream)[0]["logger"] == "py.warnings"


async def test_what_asyncio_reports_is_logged(stream: io.StringIO) -> None:
    logs.configure("info", json=True, stream=stream)
    try:
        raise RuntimeError("in a callback")
    except RuntimeError as error:
        asyncio.get_running_loop().call_exception_handler({"message": "Unhandled", "exception": error})

    assert lines(stream)[0]["logger"] == "asyncio"
    assert "RuntimeError: in a callback" in lines(stream)[0]["exception"]


def test_a_line_that_cannot_be_written_is_not_printed_raw(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", json=True, stream=stream)
    stream.close()
    logs.logger("engine").info("hello", password="hunter2")
    logging.getLogger("mail.log").warning("hunter2")

    assert capsys.readouterr().err == ""


def test_lines_are_clean_without_configure(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logs.logger("engine").info("tried", password="hunter2", note=KEY)

    assert "tried" in caplog.text
    assert "hunter2" not in caplog.text
    assert KEY not in caplog.text


def test_a_secret_is_seen_only_when_revealed(stream: io.StringIO) -> None:
    @dataclass
    class Login:
        user: str
        word: Secret

    login = Login("shop", Secret("hunter2"))

    assert login.word.reveal() == "hunter2"
    padded = f"{login.word:>20}"
    for shown in (repr(login), str(login.word), f"{login.word}", padded, "%s" % login.word):  # noqa: UP031
        assert "hunter2" not in shown
        assert BULLETS in shown
    assert logged(stream, login=login, word=login.word)["word"] == f"Secret('{BULLETS}')"
    assert "hunter2" not in stream.getvalue()
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(login.word)
    with pytest.raises(TypeError):
        json.dumps(login.word)


def test_secrets_compare_by_value_and_copy_as_themselves() -> None:
    secret = Secret("hunter2")

    assert secret == Secret("hunter2")
    assert secret != Secret("hunter3")
    assert secret != "hunter2"
    assert hash(secret) == hash(Secret("hunter2"))
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    assert Secret("\ud800ü") == Secret("\ud800ü")

    @dataclass
    class Login:
        word: Secret

    assert asdict(Login(secret)) == {"word": secret}


def test_an_empty_secret_is_false_and_shown_as_empty() -> None:
    assert not Secret("")
    assert Secret("x")
    assert (str(Secret("")), repr(Secret(""))) == ("", "Secret('')")


def test_a_trouble_that_comes_back_is_told_once_a_minute_and_at_its_end(stream: io.StringIO) -> None:
    logs.configure("info", json=True, stream=stream)
    now = [0.0]
    trouble = logs.Trouble(logs.logger("test"), steady_s=lambda: now[0])
    trouble.over("all is well")  # it never was otherwise
    for second in range(130):
        now[0] = float(second)
        trouble.met("no room", count=second)
    trouble.over("there is room")
    trouble.over("there is room")
    told = lines(stream)
    assert [(one["event"], one.get("count"), one.get("not_told")) for one in told] == [
        ("no room", 0, None),
        ("no room", 60, 59),
        ("no room", 120, 59),
        ("there is room", None, 9),
    ]
