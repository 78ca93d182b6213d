"""A dialect's Litestar application, made from its table of operations.

What is the same for every product is here: who asks, may they, how often, how large, strict JSON, and that
every answer, also where nothing is routed, has the product's own shape. What differs is data: `Surface`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, cast

import msgspec
from litestar import Litestar, Request, Response
from litestar.handlers import HTTPRouteHandler

from postroom.actions.context import Context
from postroom.core.key import Key
from postroom.errors import Limited, PostroomError
from postroom.http.app import PATH_KEY, PREFIX_KEY
from postroom.http.asgi import ASGIApp, RawHeaders, Receive, Scope, Send, answer, header_values
from postroom.http.auth import authenticate
from postroom.http.body_limits import read_body
from postroom.http.calls import JSON, Answer, C, Operation, Told
from postroom.http.client_address import client_address
from postroom.http.json import parse_object
from postroom.http.paging import parse_query
from postroom.http.rate import RateLimiter, limiter
from postroom.transports.dial_rules import DialPrivate

MOST_SETTINGS_BYTES = 1 << 20  # of a body that holds no message
MOST_TOKENS = 10_000  # strings, brackets and commas of a body; only a list of texts comes near
_LARGE_BYTES = 1 << 20
MOST_TEXT_BYTES = 320  # of one listed text with its quotes and comma, on average
_PARAMETER = re.compile(r"\{(\w+)\}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


@dataclass(frozen=True)
class ApiSettings:
    """base_url: how callers reach us, no trailing slash. rate_per_minute: None: the product's own figure.

    most_body_bytes: of a request that holds a message; of any other at most 1 MiB. inbound_domain: where
    mail for our servers arrives. dial_private: whether URLs in requests may name private addresses.
    """

    base_url: str
    rate_per_minute: int | None = None
    most_body_bytes: int = 35 << 20
    inbound_domain: str = ""
    dial_private: DialPrivate = DialPrivate.SMTP


async def _bearer(ctx: Context, scope: Scope, operation: Operation[Any]) -> Key:
    return await authenticate(ctx, scope)


def _object(raw: bytes, most_tokens: int) -> Mapping[str, object]:
    return {"body": parse_object(raw, most_tokens=most_tokens)}


@dataclass(frozen=True)
class Surface(Generic[C]):
    """One product's own.

    base: what its paths begin with. told: an error as it tells it, given the request's headers.
    refused: what a key without the scope is told. suffix: may follow any path, such as `.json`.
    call: the product's kind of Call; `more` gives its further fields from the headers, `read` those that come
    from a body, given the most values it may have. key_of: whose key a request carries; raises
    Unauthenticated.
    """

    base: str
    operations: tuple[Operation[C], ...]
    call: type[C]
    documented_rate: int
    told: Callable[[Exception, RawHeaders], Told]
    refused: PostroomError
    suffix: str = ""
    more: Callable[[RawHeaders], Mapping[str, object]] = field(default=lambda _: {})
    read: Callable[[bytes, int], Mapping[str, object]] = _object
    # Any: an operation of any product's table
    key_of: Callable[[Context, Scope, Operation[Any]], Awaitable[Key]] = _bearer

    def paths_of(self, operation: Operation[C]) -> list[str]:
        """An operation's path, and that with the suffix; one that ends in an id takes the suffix with it."""
        path = self.base + operation.path
        return [path, path + self.suffix] if self.suffix and not path.endswith("}") else [path]


def surface_app(ctx: Context, settings: ApiSettings, surface: Surface[C]) -> ASGIApp:
    """The application; it sees paths from the surface's base on.

    Operations that hold a message are answered without Litestar between, which would be half of their cost;
    its router finds all others, and says what is not there.
    """
    limits = limiter(ctx.clock, settings.rate_per_minute, surface.documented_rate)
    desk = _Desk(ctx, settings, surface, limits)

    def unrouted(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        return _response(_failed(surface.told(error, request.scope["headers"]), {}))

    routed: ASGIApp = Litestar(  # type: ignore[assignment]  # it types ASGI's dictionaries more narrowly
        [desk.handler(one) for one in surface.operations],
        openapi_config=None,
        exception_handlers={Exception: unrouted},
        logging_config=None,
        debug=False,
    )
    direct = {
        (one.method, path): one
        for one in surface.operations
        if one.holds_message and "{" not in one.path
        for path in surface.paths_of(one)
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        operation = direct.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if operation is None:
            await routed(scope, receive, send)
            return
        reply = await desk.reply(scope, receive, operation)
        more = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
        await answer(send, reply.status, reply.body, reply.content_type.encode(), *more)

    return app


class _Reply(msgspec.Struct, frozen=True):
    """An answer written out. content_type: "" for none."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class _Desk(Generic[C]):
    """What every request needs."""

    ctx: Context
    settings: ApiSettings
    surface: Surface[C]
    limits: RateLimiter | None

    def handler(self, operation: Operation[C]) -> HTTPRouteHandler:
        """A route for an operation, with and without the suffix."""

        async def handle(request: Request[Any, Any, Any]) -> Response[bytes]:
            scope, receive = cast(Scope, request.scope), cast(Receive, request.receive)
            return _response(await self.reply(scope, receive, operation))

        paths = [_PARAMETER.sub(r"{\1:str}", path) for path in self.surface.paths_of(operation)]
        named = f"{operation.method} {operation.path}"
        return HTTPRouteHandler(paths, http_method=operation.method, status_code=200, name=named)(handle)  # type: ignore[arg-type]  # a method's name

    async def reply(self, scope: Scope, receive: Receive, operation: Operation[C]) -> _Reply:
        """What to answer; never raises: whatever happens, the answer has the product's shape."""
        headers: dict[str, str] = {}
        try:
            found = await self._answer(scope, receive, operation, headers)
        except Exception as error:
            return _failed(self.surface.told(error, scope["headers"]), headers)
        return _answered(found, {**headers, **found.headers})

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        operation: Operation[C],
        headers: dict[str, str],
    ) -> Answer:
        """Raises what the operation raises; `headers` then hold what is to be told all the same."""
        ctx, raw_headers, suffix = self.ctx, scope["headers"], self.surface.suffix
        key = await self.surface.key_of(ctx, scope, operation)
        if self.limits is not None:
            allowance = self.limits.take(key.key_id)
            headers.update(allowance.headers())
            if allowance.retry_after_s:
                raise Limited(allowance.retry_after_s)
        if operation.scope is not None and not key.may(operation.scope):
            raise self.surface.refused
        raw = b""
        if scope["method"] != "GET":
            most_bytes = self.settings.most_body_bytes
            if not operation.holds_message:
                most_bytes = min(most_bytes, MOST_SETTINGS_BYTES + operation.most_texts * MOST_TEXT_BYTES)
            raw = await read_body(receive, most_bytes)
        names = header_values(raw_headers, b"idempotency-key")
        prefix = str(scope.get(PREFIX_KEY, ""))
        # Any: arguments by name, of the product's own kind of Call
        more: dict[str, Any] = {
            **await self._read(raw, operation.most_tokens or MOST_TOKENS + 2 * operation.most_texts),
            **self.surface.more(raw_headers),
        }
        call = self.surface.call(
            ctx=ctx,
            key=key,
            method=scope["method"],
            path=scope["path"].removesuffix(suffix),
            params=_params(self.surface.base + operation.path, scope, suffix),
            query=parse_query(scope["query_string"]),
            idempotency_key=names[0] if names else "",
            raw_body=raw,
            base_url=self.settings.base_url.rstrip("/") + prefix,
            origin=_origin(scope["scheme"], header_values(raw_headers, b"host"), prefix),
            rate_per_minute=self._rate,
            client=client_address(scope),
            **more,
        )
        return await operation.run(call)

    async def _read(self, raw: bytes, most_tokens: int) -> Mapping[str, object]:
        """What comes from a body; beside the event loop where that takes a while."""
        if len(raw) < _LARGE_BYTES:
            return self.surface.read(raw, most_tokens)
        return await asyncio.to_thread(self.surface.read, raw, most_tokens)

    @property
    def _rate(self) -> int:
        rate = self.settings.rate_per_minute
        return self.surface.documented_rate if rate is None else rate


def _params(template: str, scope: Scope, suffix: str) -> dict[str, str]:
    """What stands in the places of the template, with its letters as they were sent."""
    if "{" not in template:
        return {}
    words = str(scope.get(PATH_KEY, scope["path"])).split("/")
    places = zip(template.split("/"), words, strict=False)
    return {place[1:-1]: word.removesuffix(suffix) for place, word in places if place.startswith("{")}


def _origin(scheme: str, hosts: list[str], prefix: str) -> str:
    """How this caller reached us, when the Host it sent is an address at all."""
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
        return ""
    return f"{scheme}://{hosts[0]}{prefix}"


def _answered(answer: Answer, headers: Mapping[str, str]) -> _Reply:
    if answer.body is None:
        return _Reply(answer.status, b"", "", headers)
    if isinstance(answer.body, str):
        return _Reply(answer.status, answer.body.encode(), answer.content_type, headers)
    return _Reply(answer.status, msgspec.json.encode(answer.body), JSON, headers)


def _failed(told: Told, headers: Mapping[str, str]) -> _Reply:
    return _Reply(told.status, msgspec.json.encode(told.body), JSON, {**headers, **told.headers})


def _response(reply: _Reply) -> Response[bytes]:
    kind = reply.content_type
    if kind.startswith("text/"):  # Litestar names the charset of a text by itself
        kind = kind.partition(";")[0]
    return Response(
        reply.body, status_code=reply.status, headers=dict(reply.headers), media_type=kind or None
    )
