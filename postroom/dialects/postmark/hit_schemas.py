"""What the OpenAPI document says of opens and clicks."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.dialects.postmark.hits import PARTS, PLACE
from postroom.http.openapi import Json, record, text

_PROGRAM: Json = record(PARTS, **{name: text("Empty: not known.") for name in PARTS})
_HIT: Json = {
    "RecordType": text(enum=["Open", "Click"]),
    "Client": _PROGRAM,
    "OS": _PROGRAM,
    "Platform": text(enum=["Unknown"]),
    "UserAgent": text("What the program calls itself."),
    "Geo": record(PLACE, **{name: text("Empty: not known.") for name in PLACE}),
    "MessageID": text("A UUID."),
    "MessageStream": text(),
    "ReceivedAt": text("The first time of a person.", format="date-time"),
    "Tag": text(),
    "Recipient": text(),
}
_OPEN: Json = {**_HIT, "FirstOpen": {"type": "boolean"}, "ReadSeconds": {"type": "integer"}}
_CLICK: Json = {**_HIT, "ClickLocation": text(enum=["HTML", "Text"]), "OriginalLink": text()}
_TOTAL: Json = {"type": "integer", "description": "At most 10,000 are counted."}


def _list(name: str, item: str) -> Json:
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}}
    return record(("TotalCount", name), TotalCount=_TOTAL, **{name: rows})


SCHEMAS: Mapping[str, Json] = {
    "Open": record(tuple(_OPEN), **_OPEN),
    "OpenList": _list("Opens", "Open"),
    "Click": record(tuple(_CLICK), **_CLICK),
    "ClickList": _list("Clicks", "Click"),
}
