"""The OpenAPI 3.1 document of this API, made from the same tables that route it and read its bodies."""

from __future__ import annotations

from functools import cache

from postroom.actions.probes import Trouble
from postroom.dialects.b2core.calls import Call
from postroom.dialects.b2core.operations import OPERATIONS
from postroom.dialects.b2core.schema import FIELDS, Field
from postroom.dialects.b2core.texts import LANGUAGES
from postroom.http.calls import Answer, Operation
from postroom.http.openapi import YAML, Json, answer, document, record, text

BASE = "/api/v2/mail"


async def openapi(call: Call) -> Answer:
    """OpenAPI 3.1 as YAML, with the address the caller reached us by."""
    return answer(call, _document(), BASE)


OPENAPI: Operation[Call] = Operation(
    "GET", "/providers/openapi", openapi, None, "This document", YAML, takes_every_get=False
)


def _field(field: Field) -> Json:
    nullable = field.nullable
    schema: Json = {"type": [field.type, "null"] if nullable else field.type, "description": field.meaning}
    schema |= dict(field.more or {})
    if nullable and "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema if field.writable else {**schema, "readOnly": True}


def _schemas() -> dict[str, Json]:
    shown = [field for field in FIELDS if field.show is not None]
    writable = {field.name: _field(field) for field in FIELDS if field.writable}
    writable["isEnabled"] = {**writable["isEnabled"], "type": ["boolean", "integer"]}
    fields = {"type": "array", "items": text()}
    return {
        "Provider": record(tuple(one.name for one in shown), **{one.name: _field(one) for one in shown}),
        "ProviderRequest": record(
            tuple(one.name for one in FIELDS if one.writable and one.required), **writable
        ),
        "ProviderChanges": record(**writable),
        "Error": record(
            ("message", "errors"),
            message=text(f"What is wrong, in the language of Accept-Language: {', '.join(LANGUAGES)}."),
            errors={"type": "object", "additionalProperties": fields},
            reason=text("Of a failed status call.", enum=[one.value for one in Trouble]),
            detail=text("Of a failed status call: what the server said."),
        ),
    }


@cache
def _document() -> Json:
    return document(
        "Postroom: B2CORE's mail providers",
        "Bodies are read as JSON whatever content type is declared.",
        (*OPERATIONS, OPENAPI),
        _schemas(),
    )
