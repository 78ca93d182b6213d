"""Errors name what was typed; programs that read --json get the fields as they are."""

from __future__ import annotations

import json

import pytest
import typer

from postroom.cli import exits, run
from postroom.cli.app import app
from postroom.cli.wording import _CHOICES, _PARAMETERS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("data"))
    assert run(["bootstrap", "--data", folder]) == exits.OK
    return folder


CREATE = ("connection", "create", "--host", "mail.example.com", "--port", "587")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*CREATE, "--hourly-cap", "3"), "--hourly-cap must be greater than or equal to 15"),
        ((*CREATE, "--daily-cap", "many"), "--daily-cap is not a number"),
        ((*CREATE[:4], "--port", "0"), "--port must be greater than or equal to 1"),
        ((*CREATE, "--vendor", "sendgird"), f"--vendor must be one of {', '.join(_CHOICES['vendor'])}"),
        ((*CREATE, "--auth", "ntlm"), "--auth must be one of "),
        ((*CREATE, "--security", "maybe"), "--security must be one of auto, implicit, required, never"),
        ((*CREATE, "--method", "pigeon"), "--method must be one of smtp, api"),
        ((*CREATE, "--username", "u", "--auth", "plain"), "--password can't be blank"),
        ((*CREATE, "--vendor", "postmark", "--method", "api"), "--secret postmark_api_token can't be blank"),
        ((*CREATE, "--option", "aws_region=eu west"), "--option aws_region is not a valid region"),
        (("server", "create", " "), "NAME can't be blank"),
        (("server", "create", "x", "--sender", "nobody"), "--sender is not a valid email address"),
        (("key", "create", "--scope", "everything"), "--scope has no scope 'everything'; there are all, "),
        (("key", "create", "--label", " "), "--label can't be blank"),
        (("identity", "trust", "not a domain"), "ADDRESS|DOMAIN is not"),
        (("message", "send", "--to", "nobody", "--text", "x"), "--to is not a valid email address"),
        (("message", "send", "--to", "a@b.example", "--text", "x", "--from", "me"), "--from is not a valid"),
        (("message", "send", "--to", "a@b.example", "--header", "x", "--text", "x"), "--header must be"),
        (
            ("message", "send", "--to", "a@b.example", "--attach", "/gone", "--text", "x"),
            "--attach cannot be",
        ),
        (("suppression", "check", "nobody"), "ADDRESS is not a valid email address"),
        (("suppression", "add"), "ADDRESS must be given, or --file"),
        (("connection", "reset-window", "1"), "--yes must be given where nobody can be asked: Forget"),
        (("message", "resend", "1"), "--yes must be given where nobody can be asked: Send message 1"),
        (("server", "delete", "1"), "--yes must be given where nobody can be asked: "),
        (("queue", "pause"), "say what is meant, one of --all, --server and --connection"),
        (
            ("message", "send", "--to", "a@b.example", "--from", "x@no.example", "--text", "x"),
            "nobody has vouched for the sender x@no.example; `postroom identity trust` does",
        ),
        (("audit", "list", "--since", "soon"), "--since must be a date, a time, or an age"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_names_what_was_typed(
    arguments: tuple[str, ...], said: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*arguments, "--data", data])
    told = capsys.readouterr()
    assert (code, told.out) == (exits.REFUSED, "")
    assert told.err.startswith(f"Error: {said}")


def test_several_errors_stand_one_on_a_line_and_json_has_the_fields(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [*CREATE, "--hourly-cap", "3", "--vendor", "x", "--data", data]
    assert run(wrong) == exits.REFUSED
    assert capsys.readouterr().err.splitlines() == [
        f"Error: --vendor must be one of {', '.join(_CHOICES['vendor'])}",
        "       --hourly-cap must be greater than or equal to 15",
    ]
    assert run([*wrong, "--json"]) == exits.REFUSED
    error = json.loads(capsys.readouterr().out)["error"]
    assert [one["field"] for one in error["fields"]] == ["vendor", "hourly_cap"]
    assert error["fields"][0]["reason"] == "is not included in the list"


def test_every_parameter_that_stands_for_a_field_is_one_of_some_command() -> None:
    known: set[str] = set()

    def walk(group: object) -> None:
        known.update(one.name for one in getattr(group, "params", ()))
        for inner in getattr(group, "commands", {}).values():
            walk(inner)

    walk(typer.main.get_command(app))
    assert {one for names in _PARAMETERS.values() for one in names} <= known
