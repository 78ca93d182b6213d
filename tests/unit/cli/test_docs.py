"""The pages about the command line name every command and every exit code, as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from postroom.cli import exits
from postroom.cli.app import app
from tests.unit.cli.test_commands import commands_of

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("words", commands_of(typer.main.get_command(app)), ids=" ".join)
def test_every_command_is_named(words: tuple[str, ...]) -> None:
    assert f"`postroom {' '.join(words)}" in (DOCS / "command-line.md").read_text("utf-8")


def test_the_exit_codes_are_those_of_the_page() -> None:
    page = (DOCS / "command-line.md").read_text("utf-8")
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert codes == set(exits.MEANINGS)
    table = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert table == [(str(code), meaning) for code, meaning in exits.MEANINGS.items()]
