"""`postroom message` and `postroom explain`: send, look at, cancel, release, and ask why."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from postroom.cli.command import Account, Server, command, group
from postroom.cli.terminal import Terminal, command_name, plain, read_text
from postroom.core.message import DeliveryState, Purpose, SettledAs
from postroom.errors import Invalid

app = group("message", "Messages: send, look at, cancel, release, try or send again.")

Id = Annotated[
    str, Argument(metavar="MESSAGE", help="The message's number, its public id or its Message-ID.")
]

OneRecipient = Annotated[
    str | None, Option("--recipient", metavar="ADDRESS", help="Only this one of its recipients.")
]


@command(app, "send")
def send(
    terminal: Terminal,
    to: Annotated[list[str], Option("--to", metavar="MAILBOX", help="A recipient; repeat.")],
    subject: Annotated[str, Option("--subject", help="The subject.")] = "",
    text: Annotated[str | None, Option("--text", help="The plain text.")] = None,
    text_file: Annotated[
        str | None, Option("--text-file", metavar="FILE", help="Read it; - is stdin.")
    ] = None,
    html: Annotated[str | None, Option("--html", help="The HTML.")] = None,
    html_file: Annotated[
        str | None, Option("--html-file", metavar="FILE", help="Read it; - is stdin.")
    ] = None,
    purpose: Annotated[Purpose, Option("--purpose", help="The class of mail.")] = Purpose.TRANSACTIONAL,
    cc: Annotated[list[str] | None, Option("--cc", metavar="MAILBOX", help="Repeat.")] = None,
    bcc: Annotated[list[str] | None, Option("--bcc", metavar="MAILBOX", help="Repeat.")] = None,
    sender: Annotated[
        str | None, Option("--from", metavar="MAILBOX", help="Unsaid: the server's default sender.")
    ] = None,
    reply_to: Annotated[list[str] | None, Option("--reply-to", metavar="MAILBOX", help="Repeat.")] = None,
    preheader: Annotated[str, Option("--preheader", help="What inboxes show after the subject.")] = "",
    header: Annotated[
        list[str] | None, Option("--header", metavar="NAME: VALUE", help="A header of your own; repeat.")
    ] = None,
    attach: Annotated[
        list[str] | None, Option("--attach", metavar="FILE", help="A file to attach; repeat.")
    ] = None,
    stream: Annotated[str | None, Option("--stream", help="Unsaid: the purpose's own.")] = None,
    account: Account = None,
    server: Server = None,
) -> None:
    """Send a message from a server; unsaid: the server called default, or the only one."""
    if text is not None and text_file is not None:
        raise Invalid("text", "is given in more than one way")
    if html is not None and html_file is not None:
        raise Invalid("html", "is given in more than one way")
    accepted = terminal.call(
        "message.send",
        to=to,
        purpose=purpose.value,
        cc=cc or [],
        bcc=bcc or [],
        sender=sender,
        reply_to=reply_to or [],
        subject=subject,
        text=read_text(text_file, "text") if text_file is not None else text,
        html=read_text(html_file, "html") if html_file is not None else html,
        preheader=preheader,
        headers=[_header(one) for one in header or []],
        attachments=[_attachment(one) for one in attach or []],
        stream=stream,
        account=account,
        server=server,
    )

    def for_people() -> None:
        terminal.say(f"Message {accepted['message_id']} ({accepted['public_id']}) was accepted.")
        if accepted["captured"]:
            terminal.say("It was captured and stays: its server never had a connection, or is a sandbox.")
            terminal.say(f"Once it may leave: {command_name()} message release {accepted['message_id']}")
        for one in accepted["deliveries"]:
            if one["state"] == "suppressed":
                terminal.say(f"{plain(one['recipient'])} is suppressed and gets nothing.")

    terminal.show(accepted, for_people)


@command(app, "list")
def list_messages(
    terminal: Terminal,
    account: Account = None,
    server: Server = None,
    state: Annotated[DeliveryState | None, Option("--state", help="Of any of its deliveries.")] = None,
    recipient: Annotated[
        str | None, Option("--recipient", metavar="ADDRESS", help="To this address, or to any @domain.")
    ] = None,
    stream: Annotated[str | None, Option("--stream", help="Of this stream.")] = None,
    subject: Annotated[str | None, Option("--subject", metavar="TEXT", help="With this in it.")] = None,
    since: Annotated[
        str | None, Option("--since", metavar="WHEN", help="Accepted since: 2h, 3d, a date or a time (UTC).")
    ] = None,
    limit: Annotated[int, Option("--limit", min=1, max=500, help="Most of them to show.")] = 50,
    before: Annotated[int | None, Option("--before", metavar="ID", help="Only older ones than this.")] = None,
) -> None:
    """List the newest messages, newest first: all, or those that fit."""
    found = terminal.call(
        "message.list",
        account=account,
        server=server,
        state=None if state is None else state.value,
        recipient=recipient,
        stream=stream,
        subject=subject,
        since=since,
        limit=limit,
        before=before,
    )

    def for_people() -> None:
        terminal.table(
            ("id", "accepted", "purpose", "to", "subject", "state"),
            (
                (one["message_id"], one["created_at"], one["purpose"], _to(one), one["subject"], _states(one))
                for one in found["data"]
            ),
            "There are no messages." if found["searched_all"] else "Nothing was found so far.",
        )
        if found["next_before"]:
            terminal.say(f"Older ones: --before {found['next_before']}")

    terminal.show(found, for_people)


@command(app, "show")
def show(terminal: Terminal, message: Id, account: Account = None) -> None:
    """Show a message, its deliveries and what it says."""
    found = terminal.call("message.show", message=message, account=account)

    def for_people() -> None:
        inner = ("deliveries", "content")
        terminal.facts({name: value for name, value in found.items() if name not in inner})
        terminal.say()
        terminal.table(
            ("delivery", "recipient", "kind", "state", "tries", "copies", "due", "settled", "reason"),
            (
                (
                    one["delivery_id"],
                    one["recipient"],
                    one["kind"],
                    one["state"],
                    one["tries"],
                    one["copies"],
                    one["due_at"],
                    one["settled_at"],
                    one["reason"],
                )
                for one in found["deliveries"]
            ),
            "It has no deliveries.",
        )
        content = found["content"]
        terminal.say()
        if content is None:
            terminal.say("Its content is not kept any more.")
        else:
            terminal.say(plain(content["text"] or content["html"] or "(no text)", lines=True))

    terminal.show(found, for_people)


@command(app, "cancel")
def cancel(terminal: Terminal, message: Id, account: Account = None) -> None:
    """Cancel what of a message has not gone out."""
    with terminal.working("Stopping what is on its way ..."):
        done = terminal.call("message.cancel", message=message, account=account)

    def for_people() -> None:
        count = len(done["cancelled"])
        if count == 0 and not done["past_dot"]:
            terminal.say("Nothing to cancel: nothing of it waits any more.")
        else:
            terminal.say("1 delivery was cancelled." if count == 1 else f"{count} deliveries were cancelled.")
        if done["past_dot"]:
            terminal.say(f"Too late to stop: deliveries {', '.join(map(str, done['past_dot']))}.")

    terminal.show(done, for_people)


@command(app, "release")
def release(terminal: Terminal, message: Id, account: Account = None) -> None:
    """Send what was captured, or held for a person to look at."""
    done = terminal.call("message.release", message=message, account=account)
    count = done["released"]
    said = {
        0: "Nothing of it is captured or held.",
        1: "1 delivery was put into the queue.",
    }
    terminal.show(done, lambda: terminal.say(said.get(count, f"{count} deliveries were put into the queue.")))


@command(app, "retry")
def retry(terminal: Terminal, message: Id, recipient: OneRecipient = None, account: Account = None) -> None:
    """Try at once what waits for a later try, is held, or bounced."""
    done = terminal.call("message.retry", message=message, recipient=recipient, account=account)
    terminal.show(done, lambda: _handled(terminal, done, "tried again at once"))


@command(app, "resend")
def resend(
    terminal: Terminal,
    message: Id,
    recipient: OneRecipient = None,
    account: Account = None,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send again what was sent or may have been, with the same Message-ID."""
    whom = recipient or "each of its recipients"
    terminal.confirm(f"Send message {message} again? It may reach {plain(whom)} twice.", yes=yes)
    done = terminal.call("message.resend", message=message, recipient=recipient, account=account)
    terminal.show(done, lambda: _handled(terminal, done, "sent again"))


@command(app, "settle")
def settle(
    terminal: Terminal,
    message: Id,
    word: Annotated[SettledAs, Option("--as", help="What became of it, by your word.")],
    recipient: OneRecipient = None,
    account: Account = None,
) -> None:
    """End what is unknown or unverified as sent or as failed."""
    done = terminal.call(
        "message.settle", message=message, word=word.value, recipient=recipient, account=account
    )
    terminal.show(done, lambda: _handled(terminal, done, f"settled as {word.value}"))


def _handled(terminal: Terminal, done: dict[str, Any], what: str) -> None:
    count = len(done["deliveries"])
    terminal.say(f"1 delivery is {what}." if count == 1 else f"{count} deliveries are {what}.")
    for one in done["left_alone"]:
        terminal.say(f"Not {plain(one['recipient'])}, {one['state']}: {one['why']}.")


def add_explain(root: typer.Typer) -> None:
    """`postroom explain`, beside the groups: it is asked for often and in a hurry."""

    @command(root, "explain")
    def explain(terminal: Terminal, message: Id, account: Account = None) -> None:
        """Say where a message is and why: its deliveries, their attempts, what routing decided."""
        found = terminal.call("explain", message=message, account=account)
        terminal.show(found, lambda: _tree(terminal, found, 0))


def _tree(terminal: Terminal, value: object, depth: int) -> None:
    """Nested JSON values as indented names and values."""
    indent = "  " * depth
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, dict | list) and inner:
                terminal.say(f"{indent}{plain(str(name))}:")
                _tree(terminal, inner, depth + 1)
            elif inner not in (None, "", [], {}):
                terminal.say(f"{indent}{plain(str(name))}: {_leaf(inner)}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            if number and isinstance(inner, dict):
                terminal.say()
            _tree(terminal, inner, depth)
    else:
        terminal.say(f"{indent}{_leaf(value)}")


def _leaf(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else plain(str(value))


def _to(message: dict[str, Any]) -> str:
    deliveries = message["deliveries"]
    first = deliveries[0]["recipient"] if deliveries else ""
    return f"{first} and {len(deliveries) - 1} more" if len(deliveries) > 1 else first


def _states(message: dict[str, Any]) -> str:
    counted: dict[str, int] = {}
    for one in message["deliveries"]:
        counted[one["state"]] = counted.get(one["state"], 0) + 1
    if len(counted) == 1:
        return next(iter(counted))
    return ", ".join(f"{number} {state}" for state, number in counted.items())


def _header(written: str) -> tuple[str, str]:
    name, colon, value = written.partition(":")
    if not colon:
        raise Invalid("headers", "must be written NAME: VALUE")
    return name.strip(), value.strip()


def _attachment(path: str) -> dict[str, str]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Invalid("attachments", f"cannot be read from {path}: {error.strerror}") from error
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return {
        "name": Path(path).name,
        "content_type": kind,
        "data": base64.b64encode(data).decode("ascii"),
    }
