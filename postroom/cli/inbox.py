"""`postroom inbox`: what arrived at the test inbox. Reads its folder; nothing has to run."""

from __future__ import annotations

import re
import sys
from email import message_from_bytes, policy
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from postroom.cli.command import command, group
from postroom.cli.terminal import Terminal, plain
from postroom.errors import NotFound
from postroom.folder import INBOX_NAME
from postroom.inbound.inbox_folder import InboxMail, list_mails, read_mail

app = group("inbox", "The test inbox: mail that was taken on loopback and not sent on.")

_FOLD = re.compile(r"[\r\n\t]+ *")  # where a long field goes on in the next line

Folder = Annotated[
    Path | None, Option("--folder", metavar="FOLDER", help="The inbox's folder; unsaid: `inbox` in --data.")
]


@command(app, "list")
def list_inbox(
    terminal: Terminal,
    limit: Annotated[int, Option("--limit", min=1, help="Most of them to show.")] = 50,
    folder: Folder = None,
) -> None:
    """List the mails that arrived, newest first."""
    mails = list_mails(_folder(terminal, folder), limit)
    terminal.show(
        {"data": [_shown(one) for one in mails]},
        lambda: terminal.table(
            ("number", "received", "from", "to", "subject", "bytes"),
            (
                (
                    one.number,
                    f"{one.received_at:%Y-%m-%d %H:%M:%S}",
                    one.sender,
                    list(one.recipients),
                    one.subject,
                    one.size_bytes,
                )
                for one in mails
            ),
            "No mail has arrived.",
        ),
    )


@command(app, "show")
def show(
    terminal: Terminal,
    number: Annotated[int | None, Argument(metavar="[N]", help="Its number; unsaid: the newest.")] = None,
    raw: Annotated[bool, Option("--raw", help="The bytes exactly as they came.")] = False,
    folder: Folder = None,
) -> None:
    """Show one mail: its headers and its text."""
    place = _folder(terminal, folder)
    if number is None:
        newest = list_mails(place, 1)
        if not newest:
            raise NotFound("mail")
        number = newest[0].number
    data = read_mail(place, number)
    if raw and not terminal.as_json:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    parsed = message_from_bytes(data, policy=policy.default)
    headers = [(name, _FOLD.sub(" ", str(value))) for name, value in parsed.items()]
    body = parsed.get_body(("plain", "html"))
    text = "" if body is None else _text_of(body.get_payload(decode=True), body.get_content_charset())

    def for_people() -> None:
        for name, value in headers:
            terminal.say(f"{plain(name)}: {plain(value)}")
        terminal.say()
        terminal.say(plain(text.replace("\r\n", "\n"), lines=True))

    document = {
        "number": number,
        "headers": [list(one) for one in headers],
        "text": text,
        "source": data.decode("utf-8", "replace"),
    }
    terminal.show(document, for_people)


def _folder(terminal: Terminal, folder: Path | None) -> Path:
    return folder if folder is not None else terminal.settings.data / INBOX_NAME


def _text_of(data: object, charset: str | None) -> str:
    if not isinstance(data, bytes):
        return ""
    try:
        return data.decode(charset or "utf-8", "replace")
    except LookupError:  # a charset nobody knows
        return data.decode("utf-8", "replace")


def _shown(mail: InboxMail) -> dict[str, object]:
    return {
        "number": mail.number,
        "received_at": f"{mail.received_at:%Y-%m-%dT%H:%M:%SZ}",
        "sender": mail.sender,
        "recipients": list(mail.recipients),
        "subject": mail.subject,
        "size_bytes": mail.size_bytes,
    }
