"""The OpenAPI 3.1 document of this API, made from the same table that routes it."""

from __future__ import annotations

from functools import cache

from postroom.actions.suppressions import MOST_AT_ONCE
from postroom.core.suppression import Reason
from postroom.dialects.broadcast.calls import CHANNEL, Answer, Call
from postroom.dialects.broadcast.operations import OPERATIONS
from postroom.dialects.broadcast.schema import FIELDS, Field
from postroom.http.calls import Operation
from postroom.http.openapi import YAML, Json, answer, document, record, text

BASE = "/api/v1"


async def openapi(call: Call) -> Answer:
    """OpenAPI 3.1 as YAML, with the address the caller reached us by."""
    return answer(call, _document(), BASE)


OPENAPI: Operation[Call] = Operation(
    "GET", "/openapi", openapi, None, "This document", YAML, takes_every_get=False
)
_TIME = text(format="date-time")
_MAYBE_TIME = text(null=True, format="date-time")
_CHANNEL_PARAMETER: Json = {
    "name": CHANNEL,
    "in": "query",
    "description": "The channel; required for an account key.",
    "schema": {"type": "integer"},
}


def _field(field: Field, *, shown: bool) -> Json:
    nullable = field.nullable or (shown and field.show.__name__ == "<lambda>" and field.option)
    schema: Json = {"type": [field.type, "null"] if nullable else field.type, "description": field.meaning}
    more = dict(field.more or {})
    if nullable and "enum" in more:
        more["enum"] = [*more["enum"], None]  # type: ignore[misc]  # a list in JSON Schema
    schema |= more
    if shown and field.read_only:
        schema["readOnly"] = True
    if not shown and field.default is not None:
        schema["default"] = field.default
    return schema


def _schemas() -> Json:
    warning = record(("code", "param", "message"), code=text(), param=text(), message=text())
    warnings = {"type": "array", "items": warning, "description": "Remarks; absent when there are none."}
    server = record(
        tuple(field.name for field in FIELDS),
        **{"warnings": warnings, **{field.name: _field(field, shown=True) for field in FIELDS}},
    )
    writable = {field.name: _field(field, shown=False) for field in FIELDS if not field.read_only}
    boolean = {"type": "boolean"}
    integer = {"type": "integer"}
    return {
        "EmailServer": server,
        "EmailServerList": record(
            ("data", "total"),
            data={"type": "array", "items": {"$ref": "#/components/schemas/EmailServer"}},
            total={"type": "integer", "description": "All of them, not only this page."},
        ),
        "EmailServerRequest": record(
            ("email_server",),
            email_server=record(**writable),
            **{CHANNEL: {"type": "integer", "description": "Required for an account key."}},
        ),
        "CopyRequest": record(("target_channel_id",), target_channel_id=integer, **{CHANNEL: integer}),
        "TestResult": record(
            ("success", "message"), success=boolean, message=text(), error=text("The cause.")
        ),
        "Message": record(("message",), message=text()),
        "TransactionalRequest": record(
            ("to", "subject", "body"),
            to=text("One address, or `Name <address>`."),
            subject=text(),
            body=text("HTML, or plain text when it holds no tag."),
            preheader=text(null=True),
            reply_to=text(null=True),
            include_unsubscribe_link={"type": ["boolean", "null"]},
            **{CHANNEL: {"type": "integer", "description": "Required for an account key."}},
        ),
        "Transactional": record(
            ("id", "recipient_email", "subject", "status", "queue_at", "sent_at", "created_at", "updated_at"),
            id=integer,
            recipient_email=text(),
            recipient_name=text(null=True),
            subject=text(),
            body=text("Null once retention deleted it.", null=True),
            preheader=text(null=True),
            reply_to=text(null=True),
            status=text(enum=["queued", "pending", "sent", "failed"]),
            queue_at=_TIME,
            sent_at={**_MAYBE_TIME, "description": "Null until the receiving server took it."},
            created_at=_TIME,
            updated_at=_TIME,
            status_url=text(),
            warnings=warnings,
        ),
        **_suppression_schemas(warnings),
        "Whoami": record(
            ("token", "channel", "token_type", "type"),
            token=record(
                ("label", "type", "redacted_value", "last_used_at", "permissions"),
                label=text(),
                type=text(enum=["channel_scoped", "admin_cross_channel"]),
                redacted_value=text(),
                last_used_at=_MAYBE_TIME,
                permissions={"type": "object", "additionalProperties": boolean},
            ),
            channel={
                **record(("id", "name", "slug"), id=integer, name=text(), slug=text()),
                "type": ["object", "null"],
            },
            token_type=text(),
            type=text(),
        ),
        "Status": record(
            ("channel", "subscribers", "readiness"),
            channel=record(name=text(), sender_email=text(null=True), sender_name=text(null=True)),
            subscribers=record(total=integer, active=integer),
            readiness=record(broadcasts=boolean, sequences=boolean, transactionals=boolean),
        ),
        "Prime": record(
            ("platform", "capabilities", "rate_limit", "endpoints", "tips"),
            platform=record(name=text(), version=text()),
            capabilities={"type": "array", "items": text()},
            rate_limit=record(requests_per_minute=integer),
            endpoints={"type": "array", "items": {"type": "object"}},
            tips={"type": "array", "items": text()},
        ),
        "Error": record(("error",), error=text("What is wrong, in words.")),
    }


def _suppression_schemas(warnings: Json) -> Json:
    channel: Json = {CHANNEL: {"type": "integer", "description": "Required for an account key."}}
    integer, boolean = {"type": "integer"}, {"type": "boolean"}
    emails: Json = {"type": "array", "items": text(), "maxItems": MOST_AT_ONCE}
    row = {"id": integer, "email": text(), "scope": text(enum=["channel"])}
    listed = {**row, "reason": text(enum=[one.value for one in Reason]), "created_at": _TIME}
    count = ("total", "count", "from", "to", "current", "total_pages")
    return {
        "Address": record(("email",), email=text(), **channel),
        "Addresses": record(("emails",), emails=emails, **channel),
        "Suppression": record(tuple(row), **row, warnings=warnings),
        "SuppressionList": record(
            ("suppressions", "pagination"),
            suppressions={"type": "array", "items": record(tuple(listed), **listed)},
            pagination=record(count, **dict.fromkeys(count, integer)),
        ),
        "Removed": record(("email", "removed"), email=text(), removed=boolean, warnings=warnings),
        "BulkAdded": record(
            ("added", "already_suppressed", "invalid"),
            added=integer,
            already_suppressed=integer,
            invalid={"type": "array", "items": text(), "description": "What is no address, as sent."},
            warnings=warnings,
        ),
        "BulkRemoved": record(
            ("removed", "not_found"), removed=integer, not_found=integer, warnings=warnings
        ),
        "Checked": record(
            ("email", "suppressed", "scope"),
            email=text(),
            suppressed=boolean,
            scope=text("Which list has it; null for none.", null=True, enum=["channel", None]),
        ),
    }


@cache
def _document() -> Json:
    return document(
        "Postroom: Broadcast's API",
        "Every path may end in `.json`. Unknown parameters are remarked on in `warnings`.",
        (*OPERATIONS, OPENAPI),
        _schemas(),
        every_get=(_CHANNEL_PARAMETER,),
        fails={("TestResult", 422): "TestResult"},
    )
