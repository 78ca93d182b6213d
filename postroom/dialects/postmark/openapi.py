"""The OpenAPI 3.1 document of this API, made from the same tables that route it and read its bodies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from postroom.dialects.postmark import schemas
from postroom.dialects.postmark.calls import ACCOUNT_HEADER, SERVER_HEADER, Call, Op, Token
from postroom.dialects.postmark.operations import OPERATIONS
from postroom.http.calls import Answer, Operation
from postroom.http.openapi import YAML, Json, answer, document

_KEYS: Mapping[str, Json] = {
    Token.SERVER.value: {"type": "apiKey", "in": "header", "name": SERVER_HEADER},
    Token.ACCOUNT.value: {"type": "apiKey", "in": "header", "name": ACCOUNT_HEADER},
}


async def openapi(call: Call) -> Answer:
    """OpenAPI 3.1 as YAML, with the address the caller reached us by."""
    return answer(call, _document(), "")


OPENAPI = Op(
    "GET", "/servers/openapi", openapi, None, "This document", YAML, takes_every_get=False, token=Token.EITHER
)


def _key_of(operation: Operation[Any]) -> str:
    account = isinstance(operation, Op) and operation.token is Token.ACCOUNT
    return (Token.ACCOUNT if account else Token.SERVER).value


@cache
def _document() -> Json:
    return document(
        "Postroom: Postmark's API",
        "Paths, query keys and names in bodies are read without regard to case; bodies are read as JSON "
        "whatever content type is declared.",
        (*OPERATIONS, OPENAPI),
        schemas.SCHEMAS,
        keys=_KEYS,
        key_of=_key_of,
    )
