"""One authenticated request of this API, and how it says who asks.

Two headers carry keys, one for each kind. A token that is missing, unknown, of the other kind or without the
scope is refused with the same status and code. `POSTMARK_API_TEST` stands for a server where only sending
works, and nothing is sent: `Call.testing` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from postroom.actions import keys
from postroom.actions.context import Context
from postroom.core.key import Key
from postroom.core.server import Owner
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.errors import Unauthenticated
from postroom.http import calls
from postroom.http.asgi import Scope, header_values
from postroom.http.client_address import client_address
from postroom.http.json import Malformed, parse
from postroom.ids import AccountId, KeyId, ServerId
from postroom.transports.dial_rules import DialPrivate

TEST_TOKEN = "postmark_api_test"  # noqa: S105  # known to everybody
SERVER_HEADER, ACCOUNT_HEADER = "X-Postmark-Server-Token", "X-Postmark-Account-Token"
_MISSING = (
    "No Account or Server API tokens were supplied in the HTTP headers. Please add a header for either "
    f"{SERVER_HEADER} or {ACCOUNT_HEADER}."
)
_TESTER = Key(KeyId(0), AccountId(0), ServerId(0), "", frozenset({"all"}), "", 0)
MOST_COUNT = 500
_MOST_OFFSET = 2**31


class Token(StrEnum):
    """Which of the two a call wants."""

    SERVER = "Server"
    ACCOUNT = "Account"
    EITHER = "API"


@dataclass(frozen=True)
class Op(calls.Operation["Call"]):
    """One call of this API. testable: POSTMARK_API_TEST may make it."""

    token: Token = Token.SERVER
    testable: bool = False


class Call(calls.Call, frozen=True):
    """A request whose key is known and may do it.

    given: its body as it was sent; `fields` where that is an object. site: where people reach us, without a
    slash at its end. inbound_domain: where mail for our servers arrives. dial_private: whether hooks may be
    at private addresses.
    """

    given: object = None
    fields: Fields = msgspec.field(default_factory=lambda: Fields({}))
    site: str = ""
    inbound_domain: str = ""
    dial_private: DialPrivate = DialPrivate.SMTP

    @property
    def asked(self) -> Fields:
        """The query string."""
        return Fields({name.lower(): value for name, value in self.query.items()})

    @property
    def testing(self) -> bool:
        """Whether nothing is to be stored: the token is POSTMARK_API_TEST."""
        return self.key is _TESTER

    @property
    def owner(self) -> Owner:
        """Whose things this is about: the key's server, or the account."""
        return Owner(self.key.account_id, self.key.server_id)

    @property
    def server_id(self) -> ServerId:
        """The server of a server token."""
        assert self.key.server_id is not None
        return self.key.server_id

    def object(self, code: int) -> Fields:
        """The fields of a body that must be an object. Raises ApiError(code) without one."""
        if isinstance(self.given, list):
            raise ApiError(402, text="Invalid JSON: the body must be an object.")
        if self.given is None:
            raise ApiError(code)
        return self.fields

    def page(self, code: int, *, most_in_all: int | None = None) -> tuple[int, int]:
        """`count` and `offset`, both required. Raises ApiError(code) for what is out of range."""
        count, offset = self.asked.whole("count", code), self.asked.whole("offset", code)
        if count is None or offset is None or not 1 <= count <= MOST_COUNT or not 0 <= offset < _MOST_OFFSET:
            raise ApiError(code)
        if most_in_all is not None and count + offset > most_in_all:
            raise ApiError(code)
        return count, offset


async def key_of(ctx: Context, scope: Scope, operation: calls.Operation[Any]) -> Key:
    """The key a request carries in the header its call wants. Raises ApiError(10), Unavailable."""
    token = operation.token if isinstance(operation, Op) else Token.EITHER
    servers = header_values(scope["headers"], SERVER_HEADER.lower().encode())
    accounts = header_values(scope["headers"], ACCOUNT_HEADER.lower().encode())
    if not servers and not accounts:
        raise ApiError(10, text=_MISSING)
    refused = ApiError(10, text=f"Request does not contain a valid {token.value} token.")
    wanted = {Token.SERVER: servers, Token.ACCOUNT: accounts, Token.EITHER: servers or accounts}[token]
    given = {one.strip() for one in wanted}
    if len(given) != 1:
        raise refused
    text = given.pop()
    if text.lower() == TEST_TOKEN and isinstance(operation, Op) and operation.testable:
        return _TESTER
    try:
        key = await keys.authenticate(ctx, text, client_address(scope))
    except Unauthenticated:
        raise refused from None
    if (key.server_id is None) != (wanted is accounts):
        raise refused
    return key


def read(raw: bytes, most_tokens: int) -> Mapping[str, object]:
    """What of a Call comes from the body; none, and `null`, are an empty one. Raises Malformed."""
    given = parse(raw, most_tokens=most_tokens) if raw.strip() else None
    if given is not None and not isinstance(given, dict | list):
        raise Malformed("Invalid JSON: the body must be an object or an array.")
    if isinstance(given, dict):
        return {"given": given, "fields": Fields(given), "body": given}
    return {"given": given}
