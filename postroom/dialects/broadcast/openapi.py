"""The OpenAPI 3.1 document of this API, made from the same table that routes it."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

import yaml

from postroom import __version__
from postroom.dialects.broadcast.calls import CHANNEL, Answer, Call
from postroom.dialects.broadcast.operations import OPERATIONS, Operation
from postroom.dialects.broadcast.schema import FIELDS, Field

# Any: a JSON document has no narrower type.
Json = dict[str, Any]
_ALWAYS = (401, 429, 500, 503)


async def openapi(call: Call) -> Answer:
    """OpenAPI 3.1 as YAML, with the address the caller reached us by."""
    document = {**_document(), "servers": [{"url": (call.origin or call.base_url) + "/api/v1"}]}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    return Answer(text, content_type="application/yaml; charset=utf-8")


def _string(meaning: str = "", *, null: bool = False, **more: object) -> Json:
    schema: Json = {"type": ["string", "null"] if null else "string", **more}
    return {**schema, "description": meaning} if meaning else schema


_TIME = _string(format="date-time")
_MAYBE_TIME = _string(null=True, format="date-time")


def _object(required: tuple[str, ...] = (), /, **properties: object) -> Json:
    schema: Json = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


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
    warning = _object(("code", "param", "message"), code=_string(), param=_string(), message=_string())
    warnings = {"type": "array", "items": warning, "description": "Remarks; absent when there are none."}
    server = _object(
        tuple(field.name for field in FIELDS),
        **{"warnings": warnings, **{field.name: _field(field, shown=True) for field in FIELDS}},
    )
    writable = {field.name: _field(field, shown=False) for field in FIELDS if not field.read_only}
    boolean = {"type": "boolean"}
    integer = {"type": "integer"}
    return {
        "EmailServer": server,
        "EmailServerList": _object(
            ("data", "total"),
            data={"type": "array", "items": {"$ref": "#/components/schemas/EmailServer"}},
            total={"type": "integer", "description": "All of them, not only this page."},
        ),
        "EmailServerRequest": _object(
            ("email_server",),
            email_server=_object(**writable),
            **{CHANNEL: {"type": "integer", "description": "Required for an account key."}},
        ),
        "CopyRequest": _object(("target_channel_id",), target_channel_id=integer, **{CHANNEL: integer}),
        "TestResult": _object(
            ("success", "message"), success=boolean, message=_string(), error=_string("The cause.")
        ),
        "Message": _object(("message",), message=_string()),
        "TransactionalRequest": _object(
            ("to", "subject", "body"),
            to=_string("One address, or `Name <address>`."),
            subject=_string(),
            body=_string("HTML, or plain text when it holds no tag."),
            preheader=_string(null=True),
            reply_to=_string(null=True),
            include_unsubscribe_link={"type": ["boolean", "null"]},
            **{CHANNEL: {"type": "integer", "description": "Required for an account key."}},
        ),
        "Transactional": _object(
            ("id", "recipient_email", "subject", "status", "queue_at", "sent_at", "created_at", "updated_at"),
            id=integer,
            recipient_email=_string(),
            recipient_name=_string(null=True),
            subject=_string(),
            body=_string("Null once retention deleted it.", null=True),
            preheader=_string(null=True),
            reply_to=_string(null=True),
            status=_string(enum=["queued", "pending", "sent", "failed"]),
            queue_at=_TIME,
            sent_at={**_MAYBE_TIME, "description": "Null until the receiving server took it."},
            created_at=_TIME,
            updated_at=_TIME,
            status_url=_string(),
            warnings=warnings,
        ),
        "Whoami": _object(
            ("token", "channel", "token_type", "type"),
            token=_object(
                ("label", "type", "redacted_value", "last_used_at", "permissions"),
                label=_string(),
                type=_string(enum=["channel_scoped", "admin_cross_channel"]),
                redacted_value=_string(),
                last_used_at=_MAYBE_TIME,
                permissions={"type": "object", "additionalProperties": boolean},
            ),
            channel={
                **_object(("id", "name", "slug"), id=integer, name=_string(), slug=_string()),
                "type": ["object", "null"],
            },
            token_type=_string(),
            type=_string(),
        ),
        "Status": _object(
            ("channel", "subscribers", "readiness"),
            channel=_object(name=_string(), sender_email=_string(null=True), sender_name=_string(null=True)),
            subscribers=_object(total=integer, active=integer),
            readiness=_object(broadcasts=boolean, sequences=boolean, transactionals=boolean),
        ),
        "Prime": _object(
            ("platform", "capabilities", "rate_limit", "endpoints", "tips"),
            platform=_object(name=_string(), version=_string()),
            capabilities={"type": "array", "items": _string()},
            rate_limit=_object(requests_per_minute=integer),
            endpoints={"type": "array", "items": {"type": "object"}},
            tips={"type": "array", "items": _string()},
        ),
        "Error": _object(("error",), error=_string("What is wrong, in words.")),
    }


def _response(meaning: str, schema: str) -> Json:
    if schema == "text/plain":
        return {"description": meaning, "content": {schema: {"schema": {"type": "string"}}}}
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": meaning, "content": {"application/json": {"schema": reference}}}


def _operation(one: Operation) -> Json:
    told: Json = {"operationId": one.name, "summary": one.summary, "tags": [one.path.split("/")[1]]}
    parameters: list[Json] = []
    if "{id}" in one.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}})
    for place, named in (("query", one.query), ("header", one.headers)):
        for name, meaning in named.items():
            kind = "integer" if place == "query" else "string"
            parameters.append({"name": name, "in": place, "description": meaning, "schema": {"type": kind}})
    if one.method == "GET" and one.name not in ("prime", "skill"):
        parameters.append(
            {
                "name": CHANNEL,
                "in": "query",
                "description": "The channel; required for an account key.",
                "schema": {"type": "integer"},
            }
        )
    if parameters:
        told["parameters"] = parameters
    if one.takes:
        reference = {"$ref": f"#/components/schemas/{one.takes}"}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    responses = {str(one.status): _response(HTTPStatus(one.status).phrase, one.gives)}
    for status in sorted({*one.errors, *_ALWAYS}):
        fails = "TestResult" if status == 422 and one.gives == "TestResult" else "Error"
        responses[str(status)] = _response(HTTPStatus(status).phrase, fails)
    told["responses"] = responses
    return told


@cache
def _document() -> Json:
    paths: Json = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    paths["/openapi"] = {
        "get": {
            "operationId": "openapi",
            "summary": "This document",
            "tags": ["openapi"],
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {"application/yaml": {"schema": {"type": "string"}}},
                },
                **{str(status): _response(HTTPStatus(status).phrase, "Error") for status in _ALWAYS},
            },
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postroom: Broadcast's API",
            "version": __version__,
            "description": "Every path may end in `.json`. Unknown parameters are remarked on in `warnings`.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }
