"""Postmark by its API: POST /email with a message's parts, GET /server, and the search of sent messages.

https://postmarkapp.com/developer. Postmark takes no finished message and sends to everybody in To, Cc and
Bcc, so only a message whose one visible recipient is the one it goes to can be sent this way; routing
knows. It keeps our Message-ID because it is told to. Tracking is off: what is tracked is ours to track.
Each message carries our reference as metadata, which recipients never see and the search finds.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from postroom.core import need
from postroom.mail.address import wire_address
from postroom.mail.content import Attachment, Content, Mailbox
from postroom.mail.preheader import with_preheader
from postroom.transports import api_outcomes as answers
from postroom.transports import outcomes
from postroom.transports.http_client import HttpReply, HttpRequest
from postroom.transports.interface import Checked, Envelope, Fault, Found, Outcome, Phase, Result

METADATA = "postroom"
KEEP_ID = "X-PM-KeepID"

_KEY_REFUSED = frozenset({10, 413, 1480})  # no such token; account may not send; our address is not let in
_SENDER = frozenset({400, 401})  # the From is no confirmed signature
_INACTIVE = 406
_PENDING = 412  # the account may send to its own domain only, for now
_RESTS = frozenset({100, 405, 429, 1235, 1236})  # maintenance, out of credits, throttled, no such stream


@dataclass(frozen=True)
class PostmarkKey:
    """A server's token, and which of its streams carry what."""

    token: str = field(repr=False)
    stream: str = "outbound"
    bulk_stream: str = "broadcast"


class Postmark:
    """Implements `api.Speaker`."""

    def __init__(self, key: PostmarkKey, *, most_bytes: int) -> None:
        self._key, self._most_bytes = key, most_bytes

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._key.token,)

    def prepare(self) -> None:
        pass

    def send(self, envelope: Envelope) -> HttpRequest | Outcome:
        parts = None if envelope.parts is None else envelope.parts()
        if parts is None or parts.raw is not None:
            text = "Postmark's API takes no finished message, and this one is only true as it stands"
            return Outcome(Result.DEFERRED, Fault.MESSAGE, Phase.MAIL, text=text)
        if envelope.utf8 or not envelope.recipient.isascii():
            text = "Postmark takes no address with letters beyond ASCII"
            return outcomes.cannot_carry(text, "5.6.7", need.SMTPUTF8)
        body = json.dumps(self._email(envelope, parts), ensure_ascii=False).encode("utf-8", "replace")
        if len(body) > self._most_bytes:
            text = f"the message has {len(body)} bytes, Postmark takes at most {self._most_bytes}"
            return outcomes.cannot_carry(text, "5.3.4", need.larger_than(self._most_bytes))
        return self._request("POST", "/email", body)

    def sent(self, reply: HttpReply, envelope: Envelope) -> Outcome:
        found = answers.read_object(reply)
        code, text = _error(found)
        if reply.status == 200 and code in (0, None):
            remote_id = answers.text_of(found, "MessageID")
            if remote_id:
                return answers.sent(reply, remote_id, text or "OK")
            return answers.by_status(reply, "", signed=False)
        if code in _SENDER or (code == 300 and "'from'" in text.lower()):
            return answers.refused(reply, Result.RETURNED, Fault.SENDER, text)
        if code == _INACTIVE:
            # It bounced, complained or was suppressed there before. Postmark keeps that list and can take
            # an address off it again, so none is made here.
            return answers.refused(reply, Result.BOUNCED, Fault.RECIPIENT, text, "5.2.1")
        if code == _PENDING:
            return answers.refused(reply, Result.DEFERRED, Fault.MESSAGE, text, "4.7.1")
        return _of_account(reply, code, text)

    def look(self) -> HttpRequest:
        return self._request("GET", "/server", b"")

    def looked(self, reply: HttpReply) -> Checked:
        found = answers.read_object(reply)
        code, text = _error(found)
        if reply.status == 200 and "ID" in found:
            name = answers.text_of(found, "Name")
            kind = " (sandbox: nothing is delivered)" if found.get("DeliveryType") == "Sandbox" else ""
            return Checked(answers.sent(reply, "", f"the token of server {name!r}{kind}"))
        outcome = _of_account(reply, code, text)
        if outcome.fault not in (Fault.CONNECTION, Fault.LOGIN) or outcome.result is not Result.RETURNED:
            outcome = answers.resting(reply, text or f"HTTP status {reply.status}")
        return Checked(outcomes.at(outcome, Phase.AUTH))

    def find(self, reference: str, *, bulk: bool) -> HttpRequest | None:
        stream = self._key.bulk_stream if bulk else self._key.stream
        query = {"count": "1", "offset": "0", f"metadata_{METADATA}": reference, "messagestream": stream}
        return self._request("GET", f"/messages/outbound?{urlencode(query)}", b"")

    def found(self, reply: HttpReply) -> Found | None:
        messages = answers.read_object(reply).get("Messages") if reply.status == 200 else None
        if not isinstance(messages, list) or not messages or not isinstance(messages[0], dict):
            return None
        remote_id = answers.text_of(messages[0], "MessageID")
        return Found(remote_id) if remote_id else None

    def _email(self, envelope: Envelope, parts: Content) -> dict[str, object]:
        html = parts.html
        if html is not None and parts.preheader:
            html = with_preheader(html, parts.preheader)
        email: dict[str, object] = {
            "From": _mailbox(parts.sender),
            "To": ", ".join(map(_mailbox, parts.to)),
            "Subject": parts.subject,
            "Headers": [
                {"Name": name, "Value": value}
                for name, value in (("Message-ID", envelope.message_id), (KEEP_ID, "true"), *parts.headers)
            ],
            "MessageStream": self._key.bulk_stream if envelope.bulk else self._key.stream,
            "TrackOpens": False,
            "TrackLinks": "None",
        }
        if parts.text or html is None:
            email["TextBody"] = parts.text or " "  # it wants a body
        if html is not None:
            email["HtmlBody"] = html
        if parts.reply_to:
            email["ReplyTo"] = ", ".join(map(_mailbox, parts.reply_to))
        if parts.attachments:
            inline = parts.html is not None
            email["Attachments"] = [_attachment(one, inline=inline) for one in parts.attachments]
        if envelope.reference:
            email["Metadata"] = {METADATA: envelope.reference}
        return email

    def _request(self, method: str, path: str, body: bytes) -> HttpRequest:
        headers = [
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("X-Postmark-Server-Token", self._key.token),
        ]
        if body:
            headers.append(("Content-Type", "application/json; charset=utf-8"))
        return HttpRequest(method, path, tuple(headers), body)


def _of_account(reply: HttpReply, code: int | None, text: str) -> Outcome:
    """Errors that are about the token, the account, the service, or the message as a whole."""
    if code in _KEY_REFUSED:
        return answers.login(reply, text)
    if code in _RESTS:
        return answers.resting(reply, text)
    return answers.by_status(reply, text, signed=code is not None)


def _error(found: Mapping[str, object]) -> tuple[int | None, str]:
    """Postmark's own error code, None without one, and what it says, the code in front."""
    code = found.get("ErrorCode")
    text = answers.text_of(found, "Message")
    if isinstance(code, bool) or not isinstance(code, int):
        return None, text
    return code, f"{code}: {text}" if code else text


def _mailbox(mailbox: Mailbox) -> str:
    address = wire_address(mailbox.address)
    if not mailbox.name:
        return address
    name = mailbox.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{address}>'


def _attachment(attachment: Attachment, *, inline: bool) -> dict[str, str]:
    shown = {
        "Name": attachment.name,
        "Content": b64encode(attachment.data).decode("ascii"),
        "ContentType": attachment.content_type,
    }
    if inline and attachment.content_id:
        shown["ContentID"] = f"cid:{attachment.content_id}"
    return shown
