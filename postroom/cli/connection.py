"""`postroom connection`: ways out. A password is best given by --password-file or --ask-password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer import Argument, Option

from postroom.cli import completion, queue
from postroom.cli.command import Account, Limit, Offset, Server, command, group
from postroom.cli.exits import REFUSED
from postroom.cli.terminal import Terminal, read_secret
from postroom.core.connection import DeliveryMethod, Security, Vendor
from postroom.errors import Invalid

app = group("connection", "Connections: the SMTP logins and vendors that mail goes out through.")

Id = Annotated[
    int, Argument(metavar="ID", help="The connection's number.", autocompletion=completion.connections)
]
Label = Annotated[str | None, Option("--label", help="Its name, for people.")]
VendorName = Annotated[
    str | None,
    Option(
        "--vendor",
        help="aws_ses, sendgrid, postmark, mailgun, inboxroad, resend, smtp_com or other (the default).",
        autocompletion=completion.words(*Vendor),
    ),
]
Method = Annotated[
    str | None,
    Option("--method", help="smtp (the default) or api.", autocompletion=completion.words(*DeliveryMethod)),
]
Host = Annotated[str | None, Option("--host", help="Name or address of the SMTP server.")]
Port = Annotated[int | None, Option("--port", help="Its port, such as 587; 465 is TLS from the first byte.")]
SecurityMode = Annotated[
    str | None,
    Option(
        "--security",
        help="auto (the default: STARTTLS when offered), required (STARTTLS or nothing), implicit, never.",
        autocompletion=completion.words(*Security),
    ),
]
Auth = Annotated[str | None, Option("--auth", help="plain, login, cram_md5, or none.")]
Username = Annotated[str | None, Option("--username", help="SMTP user name.")]
Password = Annotated[
    str | None, Option("--password", help="SMTP password; other users of this machine may see it here.")
]
PasswordFile = Annotated[
    str | None, Option("--password-file", metavar="FILE", help="Read the SMTP password here; - is stdin.")
]
AskPassword = Annotated[bool, Option("--ask-password", help="Ask for the SMTP password on the terminal.")]
Secret = Annotated[
    list[str] | None,
    Option("--secret", metavar="NAME=VALUE", help="A vendor's key, such as postmark_api_token; repeat."),
]
SecretFile = Annotated[
    list[str] | None,
    Option("--secret-file", metavar="NAME=FILE", help="The same, read from a file; - is stdin; repeat."),
]
OptionValue = Annotated[
    list[str] | None,
    Option("--option", metavar="NAME=VALUE", help="Any other setting, such as aws_region; repeat."),
]
Sender = Annotated[
    str | None,
    Option("--sender", metavar="MAILBOX", help="A From of its own, used where nothing else names one."),
]
HourlyCap = Annotated[
    str | None, Option("--hourly-cap", help="Most recipients in any hour, at least 15; none: no cap.")
]
DailyCap = Annotated[str | None, Option("--daily-cap", help="Most recipients in a day by UTC; none: no cap.")]
Broadcast = Annotated[bool | None, Option("--broadcast/--no-broadcast", help="May carry broadcast mail.")]
Sequence = Annotated[bool | None, Option("--sequence/--no-sequence", help="May carry sequence mail.")]
Transactional = Annotated[
    bool | None, Option("--transactional/--no-transactional", help="May carry transactional mail.")
]
Enabled = Annotated[bool | None, Option("--enabled/--disabled", help="The owner's switch.")]


@command(app, "create")
def create(
    terminal: Terminal,
    label: Label = None,
    vendor: VendorName = None,
    method: Method = None,
    host: Host = None,
    port: Port = None,
    security: SecurityMode = None,
    auth: Auth = None,
    username: Username = None,
    password: Password = None,
    password_file: PasswordFile = None,
    ask_password: AskPassword = False,
    secret: Secret = None,
    secret_file: SecretFile = None,
    option: OptionValue = None,
    sender: Sender = None,
    hourly_cap: HourlyCap = None,
    daily_cap: DailyCap = None,
    broadcast: Broadcast = None,
    sequence: Sequence = None,
    transactional: Transactional = None,
    enabled: Enabled = None,
    account: Account = None,
    server: Server = None,
) -> None:
    """Make a connection: of a server with --server, else shared by the account.

    Without any of --broadcast, --sequence and --transactional it may carry all three.
    """
    secrets = _secrets(username, password, password_file, ask_password, secret, secret_file)
    if broadcast is None and sequence is None and transactional is None:
        broadcast = sequence = transactional = True
    if auth is None and "smtp_password" in secrets:
        auth = "plain"
    fields = _given(
        label=next((one for one in (label, host, vendor) if one is not None), None),
        vendor=vendor,
        delivery_method=method,
        host=host,
        port=port,
        security=security,
        auth=_or_none(auth),
        sender=sender,
        hourly_cap=_or_none(hourly_cap),
        daily_cap=_or_none(daily_cap),
        for_broadcast=broadcast,
        for_sequence=sequence,
        for_transactional=transactional,
        enabled=enabled,
    )
    made = terminal.call(
        "connection.create",
        fields=fields,
        secrets=secrets,
        options=_pairs(option, "option"),
        account=account,
        server=server,
    )
    terminal.show(made, lambda: terminal.say(f"Connection {made['connection_id']} was made."))


@command(app, "update")
def update(
    terminal: Terminal,
    connection: Id,
    label: Label = None,
    vendor: VendorName = None,
    method: Method = None,
    host: Host = None,
    port: Port = None,
    security: SecurityMode = None,
    auth: Auth = None,
    username: Username = None,
    password: Password = None,
    password_file: PasswordFile = None,
    ask_password: AskPassword = False,
    secret: Secret = None,
    secret_file: SecretFile = None,
    option: OptionValue = None,
    sender: Sender = None,
    hourly_cap: HourlyCap = None,
    daily_cap: DailyCap = None,
    broadcast: Broadcast = None,
    sequence: Sequence = None,
    transactional: Transactional = None,
    enabled: Enabled = None,
    account: Account = None,
) -> None:
    """Change some settings; an empty value removes what may be absent."""
    fields = _given(
        label=label,
        vendor=vendor,
        delivery_method=method,
        host=host,
        port=port,
        security=security,
        auth=_or_none(auth),
        sender=sender,
        hourly_cap=_or_none(hourly_cap),
        daily_cap=_or_none(daily_cap),
        for_broadcast=broadcast,
        for_sequence=sequence,
        for_transactional=transactional,
        enabled=enabled,
    )
    changed = terminal.call(
        "connection.update",
        connection=connection,
        fields=fields,
        secrets=_secrets(username, password, password_file, ask_password, secret, secret_file),
        options=_pairs(option, "option"),
        account=account,
    )
    terminal.show(changed, lambda: terminal.facts(changed))


@command(app, "list")
def list_connections(
    terminal: Terminal,
    account: Account = None,
    server: Server = None,
    limit: Limit = 500,
    offset: Offset = 0,
) -> None:
    """List the connections of a server, or of the whole account."""
    found = terminal.call("connection.list", account=account, server=server, limit=limit, offset=offset)
    terminal.show(
        found,
        lambda: terminal.table(
            ("id", "server", "label", "vendor", "host", "port", "per hour", "per day", "state"),
            (
                (
                    one["connection_id"],
                    one["server_id"],
                    one["label"],
                    one["vendor"],
                    one["host"],
                    one["port"] or None,
                    one["hourly_cap"],
                    one["daily_cap"],
                    _state(one),
                )
                for one in found["data"]
            ),
            "There are no connections.",
        ),
    )


@command(app, "show")
def show(terminal: Terminal, connection: Id, account: Account = None) -> None:
    """Show one connection; of its secrets only which are stored."""
    found = terminal.call("connection.show", connection=connection, account=account)
    terminal.show(found, lambda: terminal.facts(found))


@command(app, "delete")
def delete(terminal: Terminal, connection: Id, account: Account = None) -> None:
    """Delete a connection and its secrets; its mail waits for another."""
    with terminal.working("Ending what it holds ..."):
        done = terminal.call("connection.delete", connection=connection, account=account)

    def for_people() -> None:
        terminal.say(f"Connection {connection} was deleted.")
        if done["past_dot"]:
            terminal.say(f"On the way still: deliveries {', '.join(map(str, done['past_dot']))}.")

    terminal.show(done, for_people)


@command(app, "test")
def try_out(terminal: Terminal, connection: Id, account: Account = None) -> int:
    """Log in and out again, sending nothing; exit code 1 when that fails."""
    with terminal.working("Trying the connection ..."):
        probed = terminal.call("connection.test", connection=connection, account=account)

    def for_people() -> None:
        if probed["passed"]:
            terminal.say(f"It works: {probed['text']}.")
        else:
            terminal.say(f"It failed at {_where(probed)}.")
        if not probed["recorded"]:
            terminal.say("The result was not recorded.")

    terminal.show(probed, for_people)
    return 0 if probed["passed"] else REFUSED


@command(app, "rotate")
def rotate(
    terminal: Terminal,
    connection: Id,
    username: Username = None,
    password: Password = None,
    password_file: PasswordFile = None,
    ask_password: AskPassword = False,
    secret: Secret = None,
    secret_file: SecretFile = None,
    finish: Annotated[
        bool, Option("--finish", help="Destroy the old ones, which are kept until then.")
    ] = False,
    back: Annotated[bool, Option("--back", help="Use the old ones again, and keep the new ones.")] = False,
    account: Account = None,
) -> int:
    """Try new secrets, switch to them if they are let in, and keep the old ones; exit code 1 if not."""
    given = _secrets(username, password, password_file, ask_password, secret, secret_file)
    if finish + back + bool(given) != 1:
        raise Invalid("secret", "is needed, or --finish, or --back, and only one of them")
    if finish or back:
        word = "finish" if finish else "back"
        done = terminal.call(f"connection.rotate_{word}", connection=connection, account=account)
        did = "Destroyed, as they were before:" if finish else "In use again, as they were before:"
        terminal.show(done, lambda: terminal.say(f"{did} {', '.join(done['secrets'])}."))
        return 0
    with terminal.working("Trying the new secrets ..."):
        done = terminal.call("connection.rotate", connection=connection, secrets=given, account=account)

    def for_people() -> None:
        if done["switched"]:
            terminal.say(f"It works: {done['text']}. The new ones are in use, the old ones are kept.")
        else:
            terminal.say(f"The new ones failed at {_where(done)}. Nothing was changed.")

    terminal.show(done, for_people)
    return 0 if done["switched"] else REFUSED


@command(app, "pause")
def pause(terminal: Terminal, connection: Id, reason: queue.Reason = "", account: Account = None) -> None:
    """Send nothing more through it until it is resumed; other connections go on."""
    queue.pause_it(terminal, reason, connection=connection, account=account)


@command(app, "resume")
def resume(terminal: Terminal, connection: Id, account: Account = None) -> None:
    """End its pause; its mail goes on at once."""
    queue.resume_it(terminal, connection=connection, account=account)


@command(app, "reset-window")
def reset_window(
    terminal: Terminal,
    connection: Id,
    account: Account = None,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let it send its whole hourly and daily cap anew, now; its provider may count otherwise."""
    terminal.confirm(
        f"Forget what connection {connection} has sent in this hour and on this day? Its peer may then see up"
        " to twice the cap.",
        yes=yes,
    )
    done = terminal.call("connection.reset_window", connection=connection, account=account)

    def for_people() -> None:
        before = done["before"]
        hour = _against(before["hour"], done["hourly_cap"])
        day = _against(before["day"], done["daily_cap"])
        terminal.say(f"The hour had {hour}, the day {day}; both count from 0 again.")
        if done["under_way"]:
            terminal.say(f"{done['under_way']} under way still count.")

    terminal.show(done, for_people)


def _where(tried: Mapping[str, Any]) -> str:
    said = " ".join(str(part) for part in (tried["code"] or "", tried["text"]) if part)
    return f"{tried['phase']}: {said.removesuffix('.')}"


def _against(count: int, cap: int | None) -> str:
    return f"{count}" if cap is None else f"{count} of {cap}"


def _state(one: Mapping[str, Any]) -> str:
    if not one["enabled"]:
        return "switched off"
    if one["paused"]:
        return "paused"
    if one["failed_at"]:
        return f"failed: {one['failed_reason']}"
    return "disabled for its bounces" if one["disabled_at"] else "on"


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _or_none(word: str | None) -> str | None:
    return "" if word is not None and word.strip().lower() == "none" else word


def _pairs(written: list[str] | None, field: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for one in written or []:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise Invalid(field, "must be written NAME=VALUE")
        pairs[name] = value
    return pairs


def _secrets(
    username: str | None,
    password: str | None,
    password_file: str | None,
    ask_password: bool,
    secret: list[str] | None,
    secret_file: list[str] | None,
) -> dict[str, str]:
    if (password is not None) + (password_file is not None) + ask_password > 1:
        raise Invalid("password", "is given in more than one way")
    secrets = _pairs(secret, "secret")
    for name, path in _pairs(secret_file, "secret_file").items():
        secrets[name] = read_secret(path, name)
    if username is not None:
        secrets["smtp_username"] = username
    if password_file is not None:
        password = read_secret(password_file, "password")
    elif ask_password:
        password = typer.prompt("SMTP password", hide_input=True, err=True)
    if password is not None:
        secrets["smtp_password"] = password
    return secrets
