"""The root of the command line: every group and command, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import postroom
from postroom.cli import (
    account,
    audit,
    connection,
    doctor,
    exits,
    identity,
    inbox,
    key,
    key_file,
    message,
    notices,
    queue,
    serve,
    server,
    setup,
    suppression,
    top,
    vendor,
)
from postroom.cli.command import appearance
from postroom.cli.reach import NoData
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
):
    app.add_typer(each.app)
message.add_explain(app)
app.add_typer(inbox.app)
setup.add_config(app)
doctor.add_doctor(app)
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
        result: Any = _parser()(args=list(arguments), prog_name="postroom", standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        return exits.tell({"kind": "interrupted", "text": "stopped"}, as_json)
    except KeyboardInterrupt:
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
    except PostroomError as error:
        return exits.tell(error_to_json(error), as_json)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; without this Python complains at exit as well.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except typer.TyperException as error:
        return _usage(error, as_json)
    except Exception:  # a fault of ours: whoever reports it needs to see where
        traceback.print_exc()
        return exits.tell(error_to_json(InternalError("Postroom failed; see stderr")), as_json)
    return result if isinstance(result, int) else exits.OK


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
