"""`postroom identity dkim`: the keys that sign a domain's mail, and their records in DNS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from typer import Argument, Option

from postroom.cli.command import Account, Server
from postroom.cli.terminal import Terminal, command_name, read_text
from postroom.errors import Invalid

_RSA, _ED25519 = "rsa", "ed25519"
_KEEP_DAYS = 7

Flag = bool


def dkim(
    terminal: Terminal,
    domain: Annotated[str, Argument(metavar="DOMAIN", help="A domain that may appear in From.")],
    selector: Annotated[
        str | None,
        Option("--selector", metavar="S", help="The key under this selector; made if there is none."),
    ] = None,
    ed25519: Annotated[Flag, Option("--ed25519", help="Ed25519 instead of RSA.")] = False,
    private_key_file: Annotated[
        str | None,
        Option("--private-key-file", metavar="FILE", help="Take over a key that is in use already (PEM)."),
    ] = None,
    rotate: Annotated[Flag, Option("--rotate", help="Make a new key beside the one that signs.")] = False,
    check: Annotated[Flag, Option("--check", help="Ask DNS for the records.")] = False,
    activate: Annotated[
        Flag, Option("--activate", help="Sign with the new key from now on, if its record is in DNS.")
    ] = False,
    unchecked: Annotated[Flag, Option("--unchecked", help="Activate without asking DNS.")] = False,
    stop: Annotated[Flag, Option("--stop", help="Sign with the key no more.")] = False,
    retire: Annotated[Flag, Option("--retire", help="Destroy a key that signs no more.")] = False,
    yes: Annotated[Flag, Option("--yes", help="Do not ask before a key is destroyed.")] = False,
    account: Account = None,
    server: Server = None,
) -> None:
    """DKIM keys of a domain: show them, and make the first; rotate, check, activate, stop, retire."""
    given = {"rotate": rotate, "check": check, "activate": activate, "stop": stop, "retire": retire}
    asked = [name for name, is_asked in given.items() if is_asked]
    if len(asked) > 1:
        raise Invalid(asked[1], f"cannot be given with --{asked[0]}")
    if unchecked and not activate:
        raise Invalid("unchecked", "goes with --activate only")
    if private_key_file is not None and (asked or selector is None):
        raise Invalid("private_key_file", "goes with --selector, and with nothing else")
    whose = {"domain": domain, "account": account, "server": server}
    kind = _ED25519 if ed25519 else None
    if not asked or rotate:
        pem = None if private_key_file is None else read_text(private_key_file, "private_key_file")
        _show_or_make(terminal, whose, kind or _RSA, selector, pem, rotate=rotate)
    elif check:
        _check(terminal, whose, selector)
    else:
        if retire:
            terminal.confirm(
                f"Destroy a DKIM key of {domain}? Nothing can be signed with it any more.", yes=yes
            )
        one = {**whose, "selector": selector, "algorithm": kind}
        if activate:
            one["unchecked"] = unchecked
        _say_done(terminal, terminal.call(f"dkim.{asked[0]}", **one))


def _show_or_make(
    terminal: Terminal,
    whose: Mapping[str, object],
    algorithm: str,
    selector: str | None,
    pem: str | None,
    *,
    rotate: bool,
) -> None:
    found = terminal.call("dkim.list", **whose)["data"]
    if selector is not None:
        there = [one for one in found if one["selector"] == selector.strip().lower()]
    else:
        there = [one for one in found if one["algorithm"] == algorithm]
    if rotate:
        waiting = [
            one["selector"] for one in found if one["state"] == "new" and one["algorithm"] == algorithm
        ]
        if waiting:
            raise Invalid("rotate", f"must wait: {waiting[0]} is new and was not activated yet")
        there = []
    if there and pem is None:
        document = {"data": there if selector is not None else found}
        terminal.show(document, lambda: _say_keys(terminal, document["data"]))
        return
    made = terminal.call("dkim.make", **whose, algorithm=algorithm, selector=selector, private_key=pem)
    terminal.show({"data": [made]}, lambda: _say_new(terminal, made, anew=bool(found)))


def _say_keys(terminal: Terminal, keys: Sequence[Mapping[str, Any]]) -> None:
    terminal.table(
        ("selector", "kind", "state", "made", "in DNS since", "signs since", "stopped"),
        [
            (
                *(one["selector"], one["algorithm"], one["state"]),
                *(one["created_at"], one["seen_at"], one["activated_at"], one["stopped_at"]),
            )
            for one in keys
        ],
        "",
    )
    for one in keys:
        terminal.say()
        _say_record(terminal, one)


def _say_record(terminal: Terminal, key: Mapping[str, Any]) -> None:
    record = key["record"]
    terminal.say(f"TXT record of {key['selector']}:")
    terminal.say()
    terminal.say(f"  name   {record['name']}")
    terminal.say(f"  value  {record['value']}")
    terminal.say()
    terminal.say("The same as a line of a zone file:")
    terminal.say()
    terminal.say(f"  {record['zone_line']}")


def _say_new(terminal: Terminal, key: Mapping[str, Any], *, anew: bool) -> None:
    terminal.say(
        f"Made the {key['algorithm']} key {key['selector']} of {key['domain']}. It does not sign yet."
    )
    terminal.say()
    _say_record(terminal, key)
    terminal.say()
    then = "It then takes the place of the one that signs now." if anew else "Mail is signed from then on."
    terminal.say(f"Once the record is in DNS, sign with it. {then}")
    terminal.say()
    terminal.say(f"  {command_name()} identity dkim {key['domain']} --selector {key['selector']} --activate")


def _check(terminal: Terminal, whose: Mapping[str, object], selector: str | None) -> None:
    found = terminal.call("dkim.check", **whose, selector=selector)
    terminal.show(
        found,
        lambda: terminal.table(
            ("selector", "kind", "state", "in DNS"),
            [
                (one["selector"], one["algorithm"], one["state"], one["fault"] or "found")
                for one in found["data"]
            ],
            f"{whose['domain']} has no key yet.",
        ),
    )


def _say_done(terminal: Terminal, key: Mapping[str, Any]) -> None:
    def say() -> None:
        name, record = f"{key['selector']} of {key['domain']}", key["record"]["name"]
        if key["state"] == "active":
            terminal.say(f"The {key['algorithm']} key {name} signs from now on.")
            for one in key["stopped"]:
                terminal.say(
                    f"{one} signs no more. Leave its record in DNS for {_KEEP_DAYS} days, then retire it: "
                    f"{command_name()} identity dkim {key['domain']} --selector {one} --retire"
                )
        elif key["state"] == "stopped":
            terminal.say(f"{name} signs no more. Leave {record} in DNS for {_KEEP_DAYS} days.")
        else:
            terminal.say(f"{name} was destroyed. {record} can go from DNS.")

    terminal.show(key, say)
