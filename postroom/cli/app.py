"""The root of the command line: every group and command, and what becomes of their errors."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import postroom
from postroom.cli import (
    account,
    audit,
    backup,
    completion,
    connection,
    db,
    doctor,
    exits,
    housekeeping,
    identity,
    inbox,
    key,
    key_file,
    message,
    notices,
    queue,
    restore,
    serve,
    server,
    setup,
    suppression,
    top,
    vendor,
)
from postroom.cli.command import appearance
from postroom.cli.completion import InstallCompletion, ShowCompletion
from postroom.cli.reach import NoData
from postroom.cli.wording import WrongInput
from postroom.config import ConfigError
from postroom.control.protocol import InternalError, error_to_json
from postroom.errors import PostroomError
from postroom.keyring import KeyringError

app = typer.Typer(
    name="postroom",
    help="A self-hosted post room for outgoing email.",
    no_args_is_help=True,
    **appearance(),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(postroom.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    show_completion: ShowCompletion = None,
    install_completion: InstallCompletion = None,
) -> None:
    pass


serve.add_serve(app)
setup.add_bootstrap(app)
for each in (
    account,
    server,
    key,
    key_file,
    connection,
    vendor,
    identity,
    suppression,
    message,
    queue,
    audit,
    backup,
    db,
):
    app.add_typer(each.app)
message.add_explain(app)
app.add_typer(inbox.app)
setup.add_config(app)
doctor.add_doctor(app)
restore.add_restore(app)
housekeeping.add_housekeeping(app)
top.add_top(app)
notices.add_notices(app)


@functools.cache
def _parser() -> Callable[..., Any]:  # Any: what a command returned
    """Every command with its parameters; takes a while to build."""
    return typer.main.get_command(app)


def run_app(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. Nothing but an exit code comes out, whatever happens."""
    as_json = "--json" in arguments
    try:
        completion.prepare()
        result: Any = _parser()(args=list(arguments), prog_name="postroom", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        return exits.tell({"kind": "interrupted", "text": "interrupted"}, as_json)
    except ConfigError as error:
        problems = list(error.problems)
        return exits.tell(
            {"kind": "configuration", "text": "\n       ".join(problems), "problems": problems}, as_json
        )
    except KeyringError as error:
        return exits.tell({"kind": "configuration", "text": str(error)}, as_json)
    except NoData as error:
        return exits.tell({"kind": "not_found", "text": str(error), "what": "data"}, as_json)
    except WrongInput as error:
        return exits.tell(error_to_json(error), as_json, error.for_people)
    except PostroomError as error:
        return exits.tell(error_to_json(error), as_json)
    except BrokenPipeError:
        return exits.nobody_reads()
    except SystemExit as end:  # typer's own ends: completion, and a broken pipe, which it makes a 1
        return exits.nobody_reads() if isinstance(end.__context__, BrokenPipeError) else _code(end.code)
    except typer.TyperException as error:
        return _usage(error, as_json)
    except Exception:  # a fault of ours: whoever reports it needs to see where
        traceback.print_exc()
        return exits.tell(error_to_json(InternalError("Postroom failed; see stderr")), as_json)
    return _code(result)


def _code(given: object) -> int:
    return given if isinstance(given, int) else exits.OK if given is None else exits.INTERNAL


def _usage(error: typer.TyperException, as_json: bool) -> int:
    """A command line that cannot be understood, or help that was asked for by giving nothing."""
    text = error.format_message()
    if as_json:
        return exits.tell({"kind": "usage", "text": text}, as_json)
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        print(text, file=sys.stderr)
    return exits.USAGE
