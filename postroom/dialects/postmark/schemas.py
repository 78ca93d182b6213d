"""What the OpenAPI document says of requests and answers, one module of schemas for each resource."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.dialects.postmark import bounce_schemas, hit_schemas, sending_schemas, template_schemas
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

_MAYBE_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
_HANDLING: Json = record(
    UnsubscribeHandlingType=text("Who offers to unsubscribe.", enum=["None", "Postmark", "Custom"])
)
_STREAM_CHANGES: Json = {
    "Name": text("At most 100 characters."),
    "Description": text("At most 1000 characters, no HTML.", null=True),
    "SubscriptionManagementConfiguration": _HANDLING,
}
_STREAM_TYPE: Json = text("What mail it carries.", enum=["Transactional", "Inbound", "Broadcasts"])
_STREAM: Json = {
    "ID": text("In lower case, unique on its server."),
    "ServerID": {"type": "integer"},
    **_STREAM_CHANGES,
    "MessageStreamType": _STREAM_TYPE,
    "CreatedAt": text(format="date-time"),
    "UpdatedAt": _MAYBE_TIME,
    "ArchivedAt": _MAYBE_TIME,
    "ExpectedPurgeDate": _MAYBE_TIME,
}
_ADDRESS: Json = record(("EmailAddress",), EmailAddress=text())


def _list(item: str) -> Json:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}}


SCHEMAS: Mapping[str, Json] = {
    **bounce_schemas.SCHEMAS,
    **hit_schemas.SCHEMAS,
    **sending_schemas.SCHEMAS,
    **template_schemas.SCHEMAS,
    "Error": record(
        ("ErrorCode", "Message"),
        ErrorCode={"type": "integer", "description": "One of the product's codes; 0: no error."},
        Message=text(),
        Errors={"type": "object", "description": "With ErrorCode 11: all of them, by field."},
    ),
    "Done": record(("ErrorCode", "Message"), ErrorCode={"type": "integer", "const": 0}, Message=text()),
    "Server": record(tuple(_SERVER), **_SERVER),
    "ServerList": record(
        ("TotalCount", "Servers"),
        TotalCount={"type": "integer"},
        Servers=_list("Server"),
    ),
    "ServerRequest": record(("Name",), **_NAME, **_TYPE, **_SETTINGS),
    "ServerChanges": record(**_NAME, **_SETTINGS),
    "Stream": record(tuple(_STREAM), **_STREAM),
    "StreamList": record(
        ("TotalCount", "MessageStreams"), TotalCount={"type": "integer"}, MessageStreams=_list("Stream")
    ),
    "StreamRequest": record(
        ("ID", "Name", "MessageStreamType"), ID=text(), MessageStreamType=_STREAM_TYPE, **_STREAM_CHANGES
    ),
    "StreamChanges": record(**_STREAM_CHANGES),
    "ArchivedStream": record(
        ("ID", "ServerID", "ExpectedPurgeDate"),
        ID=text(),
        ServerID={"type": "integer"},
        ExpectedPurgeDate=text("Until then it can be taken back.", format="date-time"),
    ),
    "Suppression": record(
        ("EmailAddress", "SuppressionReason", "Origin", "CreatedAt"),
        EmailAddress=text("As it is compared: in lower case."),
        SuppressionReason=text(enum=["HardBounce", "SpamComplaint", "ManualSuppression"]),
        Origin=text(enum=["Recipient", "Customer", "Admin"]),
        CreatedAt=text(format="date-time"),
    ),
    "SuppressionDump": record(("Suppressions",), Suppressions=_list("Suppression")),
    "SuppressionRequest": record(("Suppressions",), Suppressions={"type": "array", "items": _ADDRESS}),
    "SuppressionResult": record(
        ("EmailAddress", "Status", "Message"),
        EmailAddress=text(),
        Status=text(enum=["Suppressed", "Deleted", "Failed"]),
        Message=text(null=True),
    ),
    "SuppressionResults": record(("Suppressions",), Suppressions=_list("SuppressionResult")),
}
