"""Messages that were taken by SMTP and could not be accepted afterwards: each is kept as a bounce.

A client that was told yes at the end of its data learns of a refusal nowhere else. Nothing of the message
itself is stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from postroom.actions.context import Context
from postroom.core.bounce import BounceKind
from postroom.errors import Invalid, NotFound
from postroom.ids import AccountId, BounceId, ServerId
from postroom.mail.address import parse_address
from postroom.storage import bounces, servers
from postroom.storage.bounces import NewBounce
from postroom.storage.interface import Work, now

MOST_RECIPIENTS = 50  # of one message that get a bounce of their own
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_MOST_TEXT, _MOST_REPORT, _MOST_FIELD = 1000, 16_000, 1000


@dataclass(frozen=True)
class ApiError:
    """A message that was refused after it was taken.

    recipients: the addresses of its envelope, as given. sender: the address in its From, "" for none that
    can be read. public_id: the number its client was told, "" for a new one. error: in one short sentence;
    explanation: in full; code: the number of the error in the words of the API it belongs to.
    """

    account_id: AccountId
    server_id: ServerId
    stream: str
    recipients: Sequence[str]
    error: str
    explanation: str
    code: int
    sender: str = ""
    subject: str = ""
    tag: str = ""
    public_id: str = ""


async def record(ctx: Context, refused: ApiError) -> list[BounceId]:
    """Keep it, durably, as a bounce for each recipient, the first MOST_RECIPIENTS; their numbers.

    Raises NotFound(server), Unavailable.
    """
    public_id = refused.public_id or str(uuid4())
    made = [
        NewBounce(
            account_id=refused.account_id,
            server_id=refused.server_id,
            public_id=public_id,
            stream=refused.stream,
            kind=BounceKind.NOT_ACCEPTED,
            recipient=_clean(recipient, _MOST_FIELD),
            address=_key(recipient),
            sender=_clean(refused.sender, _MOST_FIELD),
            subject=_clean(refused.subject, _MOST_FIELD),
            tag=_clean(refused.tag, _MOST_FIELD),
            text=_clean(refused.error, _MOST_TEXT),
            report=_report(refused),
        )
        for recipient in refused.recipients[:MOST_RECIPIENTS]
    ]

    def work() -> Work[list[BounceId]]:
        if (yield from servers.get(refused.account_id, refused.server_id)) is None:
            raise NotFound("server")
        at_us = yield from now()
        return (yield from bounces.add(made, at_us))

    return await ctx.store.write(work, sum(len(one.report) for one in made))


def _report(refused: ApiError) -> str:
    """The explanation in its lines, then the code and the short error."""
    said = "\r\n".join(_clean(line, _MOST_REPORT) for line in refused.explanation[:_MOST_REPORT].splitlines())
    short = _clean(refused.error, _MOST_TEXT)
    return f"{said}\r\n\r\nErrorCode: {refused.code}\r\nMessage: {short}\r\n"


def _clean(text: str, most: int) -> str:
    """What a stranger wrote, as one line that any database stores."""
    return _UNSAFE.sub(" ", text[:most])


def _key(recipient: str) -> str:
    try:
        return parse_address(recipient, "to").key
    except Invalid:
        return _clean(recipient, _MOST_FIELD).lower()
