"""URL to operation, as a Litestar application of its own: who asks, may they, how often, and the answer.

Every answer has this API's shape, also where nothing is routed, and every answer to a known key says what
its rate limit leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from litestar import Litestar, Request, Response
from litestar.handlers import HTTPRouteHandler

from postroom.actions.context import Context
from postroom.core.key import Scope
from postroom.dialects.broadcast.calls import Answer, Call
from postroom.dialects.broadcast.errors import told
from postroom.dialects.broadcast.openapi import openapi
from postroom.dialects.broadcast.operations import OPERATIONS, Run
from postroom.errors import Limited, Unauthenticated
from postroom.http.app import PREFIX_KEY
from postroom.http.asgi import ASGIApp, Receive, header_values
from postroom.http.auth import authenticate
from postroom.http.body_limits import read_body
from postroom.http.json import parse_object
from postroom.http.paging import parse_query
from postroom.http.rate import RateLimiter, limiter

BASE = "/api/v1"
PATHS = (BASE,)
PREFIX = "/broadcast"
DOCUMENTED_RATE = 120
MOST_SETTINGS_BYTES = 1 << 20  # of a body that holds no message
MOST_TOKENS = 10_000  # strings, brackets and commas of a body; no call of this API comes near
_JSON = "application/json; charset=utf-8"
_SUFFIX = ".json"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


@dataclass(frozen=True)
class BroadcastSettings:
    """base_url: how callers reach us, no trailing slash. rate_per_minute: None: the product's own figure.

    most_body_bytes: of a request that holds a message; of any other at most 1 MiB.
    """

    base_url: str
    rate_per_minute: int | None = None
    most_body_bytes: int = 35 << 20


def broadcast_app(ctx: Context, settings: BroadcastSettings) -> ASGIApp:
    """The application; it sees paths from `/api/v1` on."""
    limits = limiter(ctx.clock, settings.rate_per_minute, DOCUMENTED_RATE)
    desk = _Desk(ctx, settings, limits)
    handlers = [
        desk.handler(
            one.method, one.path, one.run, one.scope, holds_message=one.takes == "TransactionalRequest"
        )
        for one in OPERATIONS
    ]
    handlers.append(desk.handler("GET", "/openapi", openapi, None))
    return Litestar(  # type: ignore[return-value]  # Litestar types ASGI's dictionaries more narrowly
        handlers,
        openapi_config=None,
        exception_handlers={Exception: _unrouted},
        logging_config=None,
        debug=False,
    )


@dataclass(frozen=True)
class _Desk:
    """What every request needs."""

    ctx: Context
    settings: BroadcastSettings
    limits: RateLimiter | None

    def handler(
        self, method: str, path: str, run: Run, scope: Scope | None, *, holds_message: bool = False
    ) -> HTTPRouteHandler:
        """A route for an operation, with and without `.json`."""
        most_bytes = self.settings.most_body_bytes
        if not holds_message:
            most_bytes = min(most_bytes, MOST_SETTINGS_BYTES)

        async def handle(request: Request[Any, Any, Any]) -> Response[bytes]:
            return await self._handle(request, run, scope, most_bytes)

        path = path.replace("{id}", "{id:str}")
        # A path that ends in an id takes the suffix with it; `_handle` cuts it off.
        paths = [BASE + path] if path.endswith("}") else [BASE + path, BASE + path + _SUFFIX]
        return HTTPRouteHandler(paths, http_method=method, status_code=200, name=f"{method} {path}")(handle)  # type: ignore[arg-type]  # a method's name

    async def _handle(
        self, request: Request[Any, Any, Any], run: Run, scope: Scope | None, most_bytes: int
    ) -> Response[bytes]:
        headers: dict[str, str] = {}
        try:
            answer = await self._answer(request, run, scope, most_bytes, headers)
        except Exception as error:  # whatever it is, the answer has this API's shape
            said = told(error)
            return _json(said.body, said.status, {**headers, **said.headers})
        if isinstance(answer.body, str):
            return Response(
                answer.body.encode(),
                status_code=answer.status,
                headers={**headers, **answer.headers},
                media_type=_media_type(answer.content_type),
            )
        return _json(answer.body, answer.status, {**headers, **answer.headers})

    async def _answer(
        self,
        request: Request[Any, Any, Any],
        run: Run,
        scope: Scope | None,
        most_bytes: int,
        headers: dict[str, str],
    ) -> Answer:
        """Raises what the operation raises; `headers` then hold what is to be told all the same."""
        ctx, raw_headers = self.ctx, request.scope["headers"]
        key = await authenticate(ctx, raw_headers)
        if self.limits is not None:
            allowance = self.limits.take(key.key_id)
            headers.update(allowance.headers())
            if allowance.retry_after_s:
                raise Limited(allowance.retry_after_s)
        if scope is not None and not key.may(scope):
            raise Unauthenticated  # this API does not tell a key without a permission from no key
        raw = b""
        if request.method != "GET":
            raw = await read_body(cast(Receive, request.receive), most_bytes)
        names = header_values(raw_headers, b"idempotency-key")
        prefix = str(request.scope.get(PREFIX_KEY, ""))
        params = {name: str(value).removesuffix(_SUFFIX) for name, value in request.path_params.items()}
        call = Call(
            ctx=ctx,
            key=key,
            method=request.method,
            path=request.scope["path"].removesuffix(_SUFFIX),
            params=params,
            query=parse_query(request.scope["query_string"]),
            idempotency_key=names[0] if names else "",
            raw_body=raw,
            base_url=self.settings.base_url.rstrip("/") + prefix,
            origin=_origin(request.scope["scheme"], header_values(raw_headers, b"host"), prefix),
            rate_per_minute=self._rate,
            body=parse_object(raw, most_tokens=MOST_TOKENS),
        )
        return await run(call)

    @property
    def _rate(self) -> int:
        rate = self.settings.rate_per_minute
        return DOCUMENTED_RATE if rate is None else rate


def _origin(scheme: str, hosts: list[str], prefix: str) -> str:
    """How this caller reached us, when the Host it sent is an address at all."""
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
        return ""
    return f"{scheme}://{hosts[0]}{prefix}"


def _media_type(content_type: str) -> str:
    """As Litestar wants it: it names the charset of a text by itself."""
    return content_type.partition(";")[0] if content_type.startswith("text/") else content_type


def _json(body: Mapping[str, object], status: int, headers: Mapping[str, str]) -> Response[bytes]:
    return Response(msgspec.json.encode(body), status_code=status, headers=dict(headers), media_type=_JSON)


def _unrouted(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    said = told(error)
    return _json(said.body, said.status, said.headers)
