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
    "SentBatch": {"type": "array", "items": {"$ref": "#/components/schemas/Sent"}},
}
