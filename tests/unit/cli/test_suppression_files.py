"""`postroom suppression` with files: lists, CSV of every habit, and what is neither."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from postroom.cli import exits, run
from postroom.cli.suppression import MOST_LINE_CHARACTERS, _addresses, _cut


@pytest.fixture
def data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run(["bootstrap", "--data", str(tmp_path / "data")]) == exits.OK
    capsys.readouterr()
    return tmp_path / "data"


def ask(capsys: pytest.CaptureFixture[str], data: Path, *arguments: str) -> tuple[int, Any]:
    code = run(["suppression", *arguments, "--data", str(data), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "text",
    [
        "a@example.com\nB@example.com\n",
        "a@example.com\r\n\r\n  b@example.com  \r\n",
        "\ufeffEmail\na@example.com\nb@example.com\n",
        'name,email,why\n"Ann, of X",a@example.com,bounce\nBob,"b@example.com",\n',
        "id;Email Address\n1;a@example.com\n2;b@example.com",
        "address\treason\na@example.com\thard\nb@example.com\tsoft\n",
        "a@example.com,2024-01-01\nb@example.com,2024-01-02\n",
    ],
    ids=["list", "windows", "one column", "csv", "semicolons", "tabs", "no header"],
)
def test_addresses_are_found_in(
    text: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "list"
    file.write_text(text, "utf-8")
    code, done = ask(capsys, data, "add", "--file", str(file))
    assert (code, done["changed"], done["invalid"]) == (exits.OK, 2, 0)
    _, listed = ask(capsys, data, "list")
    assert [one["address"] for one in listed["data"]] == ["a@example.com", "b@example.com"]
    assert {(one["stream"], one["reason"], one["origin"]) for one in listed["data"]} == {
        (None, "manual", "admin")
    }
    code, done = ask(capsys, data, "remove", "--file", str(file))
    assert (code, done["changed"], done["unchanged"]) == (exits.OK, 2, 0)


def test_what_is_no_address_is_counted_and_shown_and_the_rest_is_done(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "list"
    file.write_text("email\n" + "".join(f"bad {n}\n" for n in range(30)) + "good@example.com\n")
    code, done = ask(capsys, data, "add", "--file", str(file), "--reason", "complaint")
    assert (code, done["changed"], done["invalid"], len(done["invalid_samples"])) == (
        exits.REFUSED,
        1,
        30,
        20,
    )
    _, found = ask(capsys, data, "check", "Good@Example.com")
    assert (found["suppressed"], found["data"][0]["reason"]) == (True, "complaint")


def test_only_one_stream(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, data, "add", "a@example.com", "--stream", "broadcast", "--reason", "unsubscribe")
    _, found = ask(capsys, data, "check", "a@example.com")
    assert [one["stream"] for one in found["data"]] == ["broadcast"]
    assert ask(capsys, data, "remove", "a@example.com")[1]["unchanged"] == 1
    assert ask(capsys, data, "remove", "a@example.com", "--stream", "broadcast")[1]["changed"] == 1
    code, error = ask(capsys, data, "add", "a@example.com", "--stream", "nowhere")
    assert (code, error["error"]["fields"][0]["field"]) == (exits.REFUSED, "stream")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfea\x00@\x00", "is not UTF-8"),
        (b"a" * (MOST_LINE_CHARACTERS + 1), "has a line of more than"),
        (b'"a@example.com\n' + b"b@example.com\n" * 99, "neither a list nor CSV"),
    ],
    ids=["utf-16", "no line ends", "an open quotation mark"],
)
def test_what_is_no_list_is_refused(
    content: bytes, said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "list"
    file.write_bytes(content)
    code, error = ask(capsys, data, "add", "--file", str(file))
    assert code == exits.REFUSED
    assert said in error["error"]["text"]


def test_addresses_or_a_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("a@example.com", "--file", "-"), ("--file", str(tmp_path / "gone"))):
        assert ask(capsys, data, "add", *arguments)[0] == exits.REFUSED


def test_an_empty_file_changes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "list"
    file.write_text("\n\nemail\n")
    assert ask(capsys, data, "add", "--file", str(file))[1]["changed"] == 0


def test_a_file_of_any_length_takes_the_memory_of_one_part() -> None:
    """60,000 lines in parts of 10,000: what is held at once stays below two parts' worth."""

    class Endless(io.StringIO):
        read_lines = 0

        def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # as much of it as is used
            self.read_lines += 1
            return f"p{self.read_lines}@example.com\n" if self.read_lines <= 60_000 else ""

    tracemalloc.start()
    try:
        sizes = [len(part) for part in _cut(_addresses(Endless(), "list"))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [10_000] * 6
    assert peak < 5 << 19
