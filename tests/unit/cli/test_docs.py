"""The pages about the command line name every command and every exit code, as they are."""

from __future__ import annotations

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


def test_every_exit_code_is_named() -> None:
    page = (DOCS / "command-line.md").read_text("utf-8")
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    for code in codes:
        assert f"| {code} |" in page
