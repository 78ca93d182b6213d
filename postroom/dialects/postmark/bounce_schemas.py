"""What the OpenAPI document says of bounces, and of rules for what comes in."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.dialects.postmark.bounce_types import KINDS
from postroom.http.openapi import Json, record, text

_COUNT: Json = {"type": "integer"}
_RULE: Json = text("An address or a domain.")
_FLAG: Json = {"type": "boolean"}
_BOUNCE: Json = {
    "RecordType": text(enum=["Bounce"]),
    "ID": {"type": "integer"},
    "Type": text(enum=list(KINDS)),
    "TypeCode": {"type": "integer"},
    "Name": text("The type, for people."),
    "Tag": text(),
    "MessageID": text("A UUID."),
    "ServerID": {"type": "integer"},
    "MessageStream": text(),
    "Description": text("What the type means; of an SMTP API error what was wrong."),
    "Details": text("What was replied."),
    "Email": text("Whom it was for."),
    "From": text(),
    "BouncedAt": text(format="date-time"),
    "DumpAvailable": {**_FLAG, "description": "Whether more was said, which the dump has."},
    "Inactive": {**_FLAG, "description": "Whether nothing is sent to the address because of it."},
    "CanActivate": {**_FLAG, "description": "Whether that may be changed."},
    "Subject": text(),
}
SCHEMAS: Mapping[str, Json] = {
    "Bounce": record(tuple(_BOUNCE), **_BOUNCE),
    "BounceDetails": record((*_BOUNCE, "Content"), **_BOUNCE, Content=text("What was said of it in full.")),
    "BounceList": record(
        ("TotalCount", "Bounces"),
        TotalCount={**_COUNT, "description": "At most 10,000 are counted."},
        Bounces={"type": "array", "items": {"$ref": "#/components/schemas/Bounce"}},
    ),
    "InboundRule": record(("ID", "Rule"), ID={"type": "integer"}, Rule=_RULE),
    "InboundRuleList": record(
        ("TotalCount", "InboundRules"),
        TotalCount=_COUNT,
        InboundRules={"type": "array", "items": {"$ref": "#/components/schemas/InboundRule"}},
    ),
    "InboundRuleRequest": record(("Rule",), Rule=_RULE),
    "BounceTags": {"type": "array", "items": text()},
    "Activated": record(
        ("Message", "Bounce"), Message=text(), Bounce={"$ref": "#/components/schemas/Bounce"}
    ),
    "DeliveryStats": record(
        ("InactiveMails", "Bounces"),
        InactiveMails={**_COUNT, "description": "Rows of the suppression lists."},
        Bounces={
            "type": "array",
            "items": record(
                ("Name", "Count", "Type", "TypeCode"),
                Name=text("All, or a type for people."),
                Count=_COUNT,
                Type=text("Empty for all of them."),
                TypeCode={"type": "integer"},
            ),
        },
    ),
}
