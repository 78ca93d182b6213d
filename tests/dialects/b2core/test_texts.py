"""Errors in the caller's language."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest

from postroom.actions import connection_draft
from postroom.actions.probes import Trouble
from postroom.dialects.b2core.errors import ROWS, SERVER_ERROR, StatusFailed, told
from postroom.dialects.b2core.texts import ENGLISH, LANGUAGES, translate
from postroom.errors import FieldError, Invalid, Limited, PostroomError, TooLarge, Unauthenticated
from postroom.http.language import preferred
from tests.dialects.b2core.conftest import GOOD
from tests.dialects.house import House

TABLE = tomllib.loads(files("postroom.dialects.b2core").joinpath("texts.toml").read_text("utf-8"))["text"]
BAD: list[tuple[str, object]] = [
    ("host", ""),
    ("host", "a b"),
    ("encryption", "x"),
    ("caption", "a\0"),
    ("caption", 5),
    ("caption", "x" * 300),
    ("username", 5),
    ("password", "x" * 5000),
    ("password", "a\rb"),
    ("port", [1]),
    ("port", "1"),
    ("port", 0),
    ("port", 70_000),
    ("sendFrom", "x"),
    ("sendFrom", 5),
    ("sendFromName", "a\0"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["en"])
def test_every_row_has_every_language_and_the_same_numbers(row: dict[str, str]) -> None:
    assert set(row) == set(LANGUAGES)
    numbers = set(re.findall(r"\{\d\}", row[ENGLISH]))
    for language in LANGUAGES:
        assert set(re.findall(r"\{\d\}", row[language])) == numbers
        assert language == ENGLISH or row[language] != row[ENGLISH]


@pytest.mark.parametrize(("name", "value"), BAD)
async def test_7_every_reason_is_told_in_every_language(house: House, name: str, value: object) -> None:
    english = (await house.call("POST", "", {**GOOD, name: value})).json()
    for language in LANGUAGES[1:]:
        answer = await house.call("POST", "", {**GOOD, name: value}, headers={"accept-language": language})
        assert answer.status_code == 400
        assert answer.json()["message"] != english["message"]
        assert answer.json()["errors"].keys() == english["errors"].keys() == {name}
        assert answer.json()["errors"][name] != english["errors"][name], (language, english["errors"])
        assert "{" not in answer.text.replace('{"', "").replace(":{", "")


def test_every_class_of_error_and_of_trouble_is_told_in_every_language() -> None:
    for language in LANGUAGES[1:]:
        headers = [(b"accept-language", language.encode())]
        for kind in ROWS:
            if kind is StatusFailed or kind in (PostroomError, Invalid):
                continue
            english = str(told(_an(kind)).body["message"])
            assert told(_an(kind), headers).body["message"] != english, (kind, language)
        for trouble in Trouble:
            failed = StatusFailed(trouble, "what the server said")
            said = told(failed, headers).body
            assert said["message"] != told(failed).body["message"]
            assert said["detail"] == "what the server said"
        assert told(ValueError("secret"), headers).body["message"] == translate(SERVER_ERROR, language)


def _an(kind: type[PostroomError]) -> PostroomError:
    """An error of this class, with a text of the table where its own text is told."""
    if issubclass(kind, TooLarge | Limited):
        return kind(5)
    for arguments in (("The body is not valid JSON",), ()):
        try:
            error = kind(*arguments)
        except TypeError:
            continue
        if kind.__name__ == "Conflict":
            return kind("the connection was changed by somebody else")
        return error
    raise AssertionError(kind)


def test_a_sentence_nobody_translated_is_told_in_english() -> None:
    assert translate("something new", "de") == "something new"
    invalid = Invalid.of([FieldError("host", "something new")])
    assert told(invalid, [(b"accept-language", b"de")]).body["errors"] == {"host": ["something new"]}


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ja", "ja"),
        ("de-AT", "de"),
        ("ru_RU", "ru"),
        ("pt, es;q=0.8, en;q=0.5", "es"),
        ("en, de", "en"),
        ("de;q=0.5, fr;q=0.9", "fr"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("", "en"),
        ("xx", "en"),
        ("de;q=huge, ;;;, ru", "ru"),
        ("a" * 100_000, "en"),
    ],
)
def test_7_which_language_a_header_means(header: str, language: str) -> None:
    assert preferred([(b"accept-language", header.encode())], LANGUAGES, ENGLISH) == language


def test_7_the_default_is_english() -> None:
    assert told(Unauthenticated()).body["message"] == "The token is missing or not known"
    assert connection_draft.NOT_LISTED == "is not included in the list"  # a key of the table
