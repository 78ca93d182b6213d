"""Every case of the list of hostile input is a test that names its number, or says why it cannot be one yet.

The list is groups of numbered cases (S: the SMTP listener, Q: queue and delivery, H: headers, and so on).
A test names those it covers in its name (`test_w6_…`) or in its docstring or its module's ("S15", "X1-X18").
A number whose test goes away fails here, and so does one that has a test and still stands under NOT_YET.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]

CASES = {
    "S": 31,
    "Q": 16,
    "H": 8,
    "A": 7,
    "E": 1,
    "T": 4,
    "F": 3,
    "M": 20,
    "N": 13,
    "L": 5,
    "V": 4,
    "I": 10,
    "K": 10,
    "U": 6,
    "W": 20,
    "X": 23,
    "C": 7,
    "R": 3,
    "Z": 5,
}

NOT_YET = {
    "mail is not sent at a time of its own yet": "Q10",
    "no API that is spoken takes attachments, and none takes archives": "F1 F3",
    "mail of the world is not received": "M11 M13-M14 M16-M17 M20 N1-N5 N7-N13 L1-L2 L4-L5 V1-V4",
    "no mailbox is read": "I1-I10",
    "there is no tracking host of its own": "K10",
    "there is no dashboard: nobody has a session, a cookie or an invitation": "W8-W11",
    "nothing is told to a URL of the caller's": "X22-X23",
    "vendors cannot call back": "C1-C7",
    "there is one version of the schema, and one process": "Z1-Z2",
}

_IN_TEXT = re.compile(r"\b([A-Z])(\d{1,2})(?:-\1?(\d{1,2}))?\b")
_IN_NAME = re.compile(r"(?<=_)([a-z])(\d{1,2})(?:_to_\1(\d{1,2}))?(?=_|$)")


def numbers(text: str, pattern: re.Pattern[str] = _IN_TEXT) -> Iterator[str]:
    for group, first, last in pattern.findall(text):
        for number in range(int(first), int(last or first) + 1):
            if 1 <= number <= CASES.get(group.upper(), 0):
                yield f"{group.upper()}{number}"


def named_in(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from numbers(ast.get_docstring(node) or "")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield from numbers(node.name, _IN_NAME)


def key(number: str) -> tuple[str, int]:
    return number[0], int(number[1:])


def test_every_number_has_a_test_or_a_reason() -> None:
    every = {f"{group}{number}" for group, most in CASES.items() for number in range(1, most + 1)}
    assert len(every) == 196
    not_yet = [one for text in NOT_YET.values() for one in numbers(text)]
    assert len(not_yet) == len(set(not_yet))
    files = [file for file in TESTS.rglob("*.py") if file != Path(__file__)]
    named = {one for file in files for one in named_in(file)}
    assert sorted(every - named - set(not_yet), key=key) == [], "neither a test nor a reason"
    assert sorted(named & set(not_yet), key=key) == [], "a test and yet a reason not to have one"
    assert named <= every


def test_how_numbers_are_read() -> None:
    assert list(numbers("cases H1-H3, A7 and F2; not B12, H0 or H99")) == ["H1", "H2", "H3", "A7", "F2"]
    assert list(numbers("test_x1_to_x3_w12", _IN_NAME)) == ["X1", "X2", "X3", "W12"]
    assert list(numbers("test_utf8_of_h5s", _IN_NAME)) == []
