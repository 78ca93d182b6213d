"""What the OpenAPI document says of messages that are sent, and of their answers."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.dialects.postmark.server_fields import TRACK_LINKS
from postroom.http.openapi import Json, record, text

_HEADER: Json = record(("Name", "Value"), Name=text(), Value=text())
_FILE: Json = record(
    ("Name", "Content"),
    Name=text("The file's name."),
    Content=text("Base64."),
    ContentType=text(),
    ContentID=text("`cid:…` for an image inside the HTML.", null=True),
)
ENVELOPE: Json = {
    "From": text("`address` or `Name <address>`."),
    "To": text("Up to 50 addresses in To, Cc and Bcc, separated by commas."),
    "Cc": text(),
    "Bcc": text(),
    "ReplyTo": text(),
    "Tag": text("One name to find messages by."),
    "Metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    "Headers": {"type": "array", "items": _HEADER},
    "TrackOpens": {"type": "boolean"},
    "TrackLinks": text(enum=[*TRACK_LINKS]),
    "Attachments": {"type": "array", "items": _FILE},
    "MessageStream": text("The stream it goes on; `outbound` unless named."),
}
_PEOPLE: Json = {
    "type": "array",
    "items": record(("Email", "Name"), Email=text(), Name=text(null=True)),
}
_MESSAGE: Json = {
    "Tag": text(),
    "MessageID": text("A UUID."),
    "MessageStream": text(),
    "To": _PEOPLE,
    "Cc": _PEOPLE,
    "Bcc": _PEOPLE,
    "Recipients": {"type": "array", "items": text()},
    "ReceivedAt": text(format="date-time"),
    "From": text(),
    "Subject": text(),
    "Attachments": {"type": "array", "items": text("A file's name.")},
    "Status": text(enum=["Queued", "Sent"]),
    "TrackOpens": {"type": "boolean"},
    "TrackLinks": text(enum=[*TRACK_LINKS]),
    "Metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    "Sandboxed": {"type": "boolean"},
}
_EVENT: Json = record(
    ("Recipient", "Type", "ReceivedAt", "Details"),
    Recipient=text(),
    Type=text(),
    ReceivedAt=text(format="date-time"),
    Details={"type": "object", "additionalProperties": {"type": "string"}},
)
_SOURCE: Json = text("The message as it is sent, at most 1 MB.")
_SAID: Json = {"TextBody": text(), "HtmlBody": text(), "Body": _SOURCE}
SCHEMAS: Mapping[str, Json] = {
    "Email": record(("From",), **ENVELOPE, Subject=text(), HtmlBody=text(), TextBody=text()),
    "EmailBatch": {"type": "array", "items": {"$ref": "#/components/schemas/Email"}, "maxItems": 500},
    "Sent": record(
        ("SubmittedAt", "MessageID", "ErrorCode", "Message"),
        To=text("As it was sent."),
        SubmittedAt=text(format="date-time"),
        MessageID=text("A UUID."),
        ErrorCode={"type": "integer", "description": "0: accepted. In a batch any code."},
        Message=text(),
    ),
    "Message": record(tuple(_MESSAGE), **_MESSAGE),
    "MessageList": record(
        ("TotalCount", "Messages"),
        TotalCount={"type": "integer", "description": "At most 10,000 are counted."},
        Messages={"type": "array", "items": {"$ref": "#/components/schemas/Message"}},
    ),
    "MessageDetails": record(
        (*_MESSAGE, *_SAID, "MessageEvents"),
        **_MESSAGE,
        **_SAID,
        MessageEvents={"type": "array", "items": _EVENT},
    ),
    "Dump": record(("Body",), Body=_SOURCE),
    "SentBatch": {"type": "array", "items": {"$ref": "#/components/schemas/Sent"}},
}
