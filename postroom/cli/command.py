"""How a command is made: its own parameters, then those each has (--data, --database, --config, --json).

    @command(app, "create")
    def create(terminal: Terminal, name: Annotated[str, Argument(help="…")]) -> None: ...

A command returns None or an exit code.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from postroom.cli import completion
from postroom.cli.terminal import Terminal
from postroom.cli.wording import WrongInput, spelling
from postroom.config import Row, rows
from postroom.errors import Invalid

Account = Annotated[
    int | None,
    typer.Option(
        "--account",
        metavar="ID",
        help="The account; not needed where it is the only one.",
        autocompletion=completion.accounts,
    ),
]
Server = Annotated[
    int | None,
    typer.Option("--server", metavar="ID", help="The server.", autocompletion=completion.servers),
]
Limit = Annotated[int, typer.Option("--limit", help="Most of them to show.", min=1, max=500)]
Offset = Annotated[int, typer.Option("--offset", help="How many to leave out first.", min=0)]

_SETTING = "setting_"
_WHERE = ("data", "database")
_COMMON: tuple[tuple[str, Any, Any], ...] = (  # Any: annotations, as typer reads them
    (
        "config_file",
        Annotated[
            Path | None,
            typer.Option("--config", metavar="FILE", help="TOML file of settings.", show_default=False),
        ],
        None,
    ),
    (
        "as_json",
        Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")],
        False,
    ),
)


def group(name: str, help_text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(name=name, help=help_text, no_args_is_help=True, **appearance())


def appearance() -> dict[str, Any]:  # Any: typer's keyword arguments
    """How help looks: boxes on a terminal, plain text anywhere else."""
    return {
        "rich_markup_mode": "rich" if sys.stdout.isatty() else None,
        "pretty_exceptions_enable": False,
        "add_completion": False,
    }


def command(
    app: typer.Typer, name: str, *, all_settings: bool = False
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Add a function to a group. all_settings: a flag for each setting, not only for those that say where."""

    def register(run: Callable[..., int | None]) -> Callable[..., int | None]:
        own = list(inspect.signature(run, eval_str=True).parameters.values())[1:]
        flags = [_flag(row) for row in rows() if all_settings or row.name in _WHERE]
        common = [
            inspect.Parameter(one, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for one, annotation, default in _COMMON
        ]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *flags, *common)]

        spelled = {one.name: spelling(one.name, one.annotation) for one in own}

        def invoke(**given: Any) -> None:  # Any: whatever typer parsed by the annotations
            settings = {one.name: given.pop(one.name) for one in flags}
            terminal = Terminal(
                {one.removeprefix(_SETTING): value for one, value in settings.items()},
                given.pop("config_file"),
                given.pop("as_json"),
            )
            try:
                code = run(terminal, **given)
            except Invalid as error:
                raise WrongInput(error, spelled) from error
            except KeyboardInterrupt as error:  # typer would make a bare code of it, and tell nobody
                raise typer.Abort from error
            if code:
                raise typer.Exit(code)

        invoke.__name__, invoke.__doc__ = run.__name__, run.__doc__
        invoke.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
        vars(invoke)["__signature__"] = inspect.Signature(parameters)
        app.command(name)(invoke)
        return run

    return register


def _flag(row: Row) -> inspect.Parameter:
    default = f"default {row.default}" if row.default else "default: empty"
    option = typer.Option(
        "--" + row.name.replace("_", "-"),
        help=f"{row.meaning} ({row.kind.word}; {default})",
        metavar="VALUE",
        show_default=False,
    )
    return inspect.Parameter(
        _SETTING + row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )
