"""What the OpenAPI document says of requests and answers, one module of schemas for each resource."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.dialects.postmark.server_fields import COLOR, FLAGS, HOOKS, LINKS, THRESHOLD, Option
from postroom.http.openapi import Json, record, text


def _option(field: Option) -> Json:
    more = {
        name: list(value) if isinstance(value, tuple) else value for name, value in (field.more or {}).items()
    }
    return {"type": field.type, "description": field.meaning, "default": field.default, **more}


_SETTINGS: Json = {one.name: _option(one) for one in (COLOR, *FLAGS, *HOOKS, LINKS, THRESHOLD)}
_NAME: Json = {
    "Name": text("Of the server, unique in the account."),
    "SmtpApiActivated": {"type": "boolean", "description": "Whether its tokens may submit by SMTP."},
    "InboundDomain": text("Where any local part is the server's; `*.` for all below."),
}
_TYPE: Json = {"DeliveryType": text("Sandbox: nothing leaves.", enum=["Live", "Sandbox"])}
_FIXED: Json = {
    "ID": {"type": "integer"},
    "ApiTokens": {"type": "array", "items": text()},
    "ServerLink": text(),
    "InboundAddress": text(),
    "InboundHash": text(),
}
_SERVER: Json = {**_FIXED, **_NAME, **_TYPE, **_SETTINGS}

SCHEMAS: Mapping[str, Json] = {
    "Error": record(
        ("ErrorCode", "Message"),
        ErrorCode={"type": "integer", "description": "One of the product's codes; 0: no error."},
        Message=text(),
    ),
    "Done": record(("ErrorCode", "Message"), ErrorCode={"type": "integer", "const": 0}, Message=text()),
    "Server": record(tuple(_SERVER), **_SERVER),
    "ServerList": record(
        ("TotalCount", "Servers"),
        TotalCount={"type": "integer"},
        Servers={"type": "array", "items": {"$ref": "#/components/schemas/Server"}},
    ),
    "ServerRequest": record(("Name",), **_NAME, **_TYPE, **_SETTINGS),
    "ServerChanges": record(**_NAME, **_SETTINGS),
}
