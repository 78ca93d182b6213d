"""What the documentation names exists: linked files and headings, settings, commands, source files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from postroom.cli.app import app
from postroom.config import rows
from tests.unit.cli.test_commands import commands_of

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SETTINGS = {row.name for row in rows()}

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
# A word with an underscore may be anything, so a setting is told by where it stands.
_NAMED_SETTING = re.compile(r"[Ss]ettings?\s+`([a-z_]+)`|`([a-z_]+)`\s+\([0-9]")
_VARIABLE = re.compile(r"\bPOSTROOM_([A-Z_]+)")
_COMMAND = re.compile(r"(?:^|[\s`])(?:postroom|-m postroom)((?: [a-z][a-z-]*)+)")
_SOURCE = re.compile(r"(?:postroom|tests|docs|scripts|requirements)/[\w./*-]*[\w*]")
_NOT_SETTINGS = {"CONFIG", "TEST_DATABASE"}


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def anchors(page: Path) -> set[str]:
    """As the places that show Markdown make them: lower case, blanks as hyphens, no punctuation."""
    found = re.findall(r"^#+ (.+)$", _FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


def broken_links(page: Path, text: str) -> Iterator[str]:
    for target in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


def unknown_settings(text: str) -> Iterator[str]:
    for one, other in _NAMED_SETTING.findall(text):
        name = one or other
        if name not in SETTINGS:
            yield name
    for name in _VARIABLE.findall(text):
        if name not in _NOT_SETTINGS and name.lower() not in SETTINGS:
            yield f"POSTROOM_{name}"


def unknown_commands(text: str) -> Iterator[str]:
    commands = set(commands_of(typer.main.get_command(app)))
    groups = {words[:length] for words in commands for length in range(len(words))}
    code = "\n".join([*_FENCE.findall(text), *_CODE.findall(_FENCE.sub("", text))])
    for line in code.splitlines():
        for spelt in _COMMAND.findall(line):
            words: tuple[str, ...] = ()
            for word in spelt.split():
                if words not in groups:
                    break  # a command's own arguments
                words = (*words, word)
            if words not in commands | groups:
                yield " ".join(words)


def missing_files(text: str) -> Iterator[str]:
    for code in _CODE.findall(_FENCE.sub("", text)):
        if "<" in code or "NNNN" in code:
            continue  # a place to be filled in
        yield from (name for name in _SOURCE.findall(code) if not any(ROOT.glob(name)))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page, text_of(page))) == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    assert list(unknown_settings(text_of(page))) == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_that_is_named_exists(page: Path) -> None:
    assert list(unknown_commands(text_of(page))) == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_file_of_the_source_that_is_named_exists(page: Path) -> None:
    assert list(missing_files(text_of(page))) == []


def test_every_page_in_the_folder_is_linked_from_another_one() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in _LINK.findall(text_of(page))
        if not re.match(r"[a-z]+:", target)
    }
    assert [ids(page) for page in PAGES if page.parent != ROOT and page not in linked] == []


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """Of these checks themselves: a page with one mistake of each kind."""
    page = tmp_path / "page.md"
    page.write_text("# One heading\n", "utf-8")
    links = "[a](page.md) [b](#one-heading) [c](gone.md) [d](page.md#gone) [e](https://example.com/)"

    assert list(broken_links(page, links)) == ["gone.md", "page.md#gone"]
    wrong = "the setting `log_levels`, `retry_frist_wait` (5 minutes), POSTROOM_DATE"
    assert list(unknown_settings(wrong)) == ["log_levels", "retry_frist_wait", "POSTROOM_DATE"]
    assert list(unknown_settings("settings `log_level`, `drain` (30 s), POSTROOM_CONFIG")) == []
    assert list(unknown_commands("`postroom message sent` or `postroom explain this`")) == ["message sent"]
    assert list(unknown_commands("```sh\npython -m postroom bootstrapp --json\n```")) == ["bootstrapp"]
    named = (
        "`postroom/clock.py`, `tests/unit/test_d*.py`, `postroom/cli/`, `postroom/clocks.py`, `docs/<x>.md`"
    )
    assert list(missing_files(named)) == ["postroom/clocks.py"]
