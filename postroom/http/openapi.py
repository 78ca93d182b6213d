"""An OpenAPI 3.1 document from the table that routes a dialect, so that it cannot say anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import yaml

from postroom import __version__
from postroom.http.calls import Answer, Call, Operation, Operations

# Any: a JSON document has no narrower type.
Json = dict[str, Any]
ALWAYS = (401, 429, 500, 503)
YAML = "application/yaml"
NUMBERS = frozenset({"limit", "offset", "page", "count"})  # parameters of queries; all others are texts
BEARER: Mapping[str, Json] = {"key": {"type": "http", "scheme": "bearer"}}


def text(meaning: str = "", *, null: bool = False, **more: object) -> Json:
    """The schema of a string."""
    schema: Json = {"type": ["string", "null"] if null else "string", **more}
    return {**schema, "description": meaning} if meaning else schema


def record(required: tuple[str, ...] = (), /, **properties: object) -> Json:
    """The schema of an object."""
    schema: Json = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def document(
    title: str,
    description: str,
    operations: Operations,
    schemas: Mapping[str, Json],
    *,
    every_get: tuple[Json, ...] = (),
    fails: Mapping[tuple[str, int], str] | None = None,
    keys: Mapping[str, Json] = BEARER,
    key_of: Callable[[Operation[Any]], str] | None = None,
) -> Json:
    """The document without `servers`.

    every_get: parameters all GETs take that have a scope. fails: the schema of an error answer, by what the
    operation gives and the status, where it is not `Error`. keys: the ways a key is sent, by name; key_of:
    which of them an operation wants, where it is not the first.
    """
    paths: Json = {}
    for one in operations:
        said = _operation(one, every_get, fails or {})
        if key_of is not None:
            said["security"] = [{key_of(one): []}]
        paths.setdefault(one.path, {})[one.method.lower()] = said
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "description": description},
        "security": [{next(iter(keys)): []}],
        "paths": paths,
        "components": {
            "securitySchemes": dict(keys),
            "schemas": dict(schemas),
        },
    }


def answer(call: Call, made: Mapping[str, object], base: str) -> Answer:
    """The document as YAML, with the address the caller reached us by."""
    whole = {**made, "servers": [{"url": (call.origin or call.base_url) + base}]}
    said = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=110)
    return Answer(said, content_type=f"{YAML}; charset=utf-8")


def _operation(
    one: Operation[Any], every_get: tuple[Json, ...], fails: Mapping[tuple[str, int], str]
) -> Json:
    told: Json = {"operationId": one.name, "summary": one.summary, "tags": [one.noun]}
    parameters: list[Json] = []
    for name in re.findall(r"{(\w+)}", one.path):
        kind = "integer" if name == "id" else "string"
        parameters.append({"name": name, "in": "path", "required": True, "schema": {"type": kind}})
    for place, named in (("query", one.query), ("header", one.headers)):
        for name, meaning in named.items():
            kind = "integer" if place == "query" and name in NUMBERS else "string"
            parameters.append({"name": name, "in": place, "description": meaning, "schema": {"type": kind}})
    if one.method == "GET" and one.takes_every_get:
        parameters += every_get
    if parameters:
        told["parameters"] = parameters
    if one.takes:
        reference = {"$ref": f"#/components/schemas/{one.takes}"}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    responses = {str(one.status): _response(HTTPStatus(one.status).phrase, one.gives)}
    for status in sorted({*one.errors, *ALWAYS}):
        schema = fails.get((one.gives, status), "Error")
        responses[str(status)] = _response(HTTPStatus(status).phrase, schema)
    told["responses"] = responses
    return told


def _response(meaning: str, schema: str) -> Json:
    if not schema:
        return {"description": meaning}
    if "/" in schema:
        kind = "object" if schema == YAML else "string"
        return {"description": meaning, "content": {schema: {"schema": {"type": kind}}}}
    content: Json = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if schema.endswith("[]"):
        items = {"$ref": f"#/components/schemas/{schema[:-2]}"}
        content = {"schema": {"type": "array", "items": items}}
    return {"description": meaning, "content": {"application/json": content}}
