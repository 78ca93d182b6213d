"""One address, many applications: which of them a request is for, by its path.

A dialect owns the paths its product has, and has them again under its own prefix, so that two products that
want one path can both be reached. What the product folds (a trailing slash, upper and lower case) is folded
here, so that the application sees one spelling. `/healthz` and `/readyz` are answered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from postroom.http.asgi import ASGIApp, Message, Receive, Scope, Send, answer
from postroom.http.body_limits import BodyLimit
from postroom.http.client_address import ClientAddress, Network

PREFIX_KEY = "postroom.prefix"  # in the scope: what was taken off the front of the path
PATH_KEY = "postroom.path"  # in the scope: the path with its letters as they were sent
JSON = b"application/json"

Answered = Callable[[str, int], None]
"""(dialect, status): an answer begins; the dialect is a mount's prefix without its slash, or one of these."""
OPERATIONS = "operations"
PUBLIC = "public"  # the mounts without a prefix

Missing = Callable[[], Sequence[str]]
"""What is missing until requests can be served, one phrase each; empty: ready."""


@dataclass(frozen=True)
class Mount:
    """An application and its paths: each of `paths` with all below it, and the same again below `prefix`.

    The application sees paths without the prefix, which is in the scope under PREFIX_KEY. Without a prefix it
    is no API, and `/` does not tell of it.
    """

    app: ASGIApp
    paths: tuple[str, ...]
    prefix: str
    fold_slash: bool = True
    fold_case: bool = False


def http_app(
    mounts: Sequence[Mount],
    missing: Missing,
    *,
    most_body_bytes: int,
    pages: Mapping[str, ASGIApp] | None = None,
    answered: Answered | None = None,
    body_patience_s: float = 60.0,
    trusted_proxies: Sequence[Network] = (),
) -> ASGIApp:
    """The application for the server: all mounts behind the cap on bodies, with the real client in scope.

    pages: applications for one exact path each, such as /metrics. answered: hears of every answer.
    most_body_bytes: of any request; an operation may allow less. body_patience_s: for a whole body.
    trusted_proxies: whose X-Forwarded-For and -Proto are believed; see `client_address`.
    """
    app = Dispatcher(mounts, missing, pages or {}, answered)
    limited = BodyLimit(app, most_bytes=most_body_bytes, patience_s=body_patience_s)
    return ClientAddress(limited, trusted_proxies)


class Dispatcher:
    """Hands each request to the mount whose path is the longest that fits."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        missing: Missing,
        pages: Mapping[str, ASGIApp],
        answered: Answered | None,
    ) -> None:
        self._missing, self._pages, self._answered = missing, pages, answered
        self._told = sorted(path for mount in mounts if mount.prefix for path in mount.paths)
        entries = [(path, "", mount) for mount in mounts for path in mount.paths]
        entries += [(mount.prefix + path, mount.prefix, mount) for mount in mounts for path in mount.paths]
        # By their first word: of some forty paths a request looks at one or two.
        self._entries: dict[str, list[tuple[str, str, Mount]]] = {}
        for entry in sorted(entries, key=lambda entry: -len(entry[0])):
            self._entries.setdefault(_first_word(entry[0]), []).append(entry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        for base, prefix, mount in self._entries.get(_first_word(path), ()):
            if _is_below(path, base, mount.fold_case):
                told = self._told_of(send, mount.prefix.strip("/") or PUBLIC)
                await mount.app(_inside(scope, path, prefix, mount), receive, told)
                return
        send = self._told_of(send, OPERATIONS)
        if path in self._pages:
            await self._pages[path](scope, receive, send)
            return
        if path in ("/healthz", "/readyz"):
            await self._operations(scope, send, ready=path == "/readyz")
            return
        if path == "/":
            paths = ", ".join(self._told)
            operations = ", ".join(("/healthz", "/readyz", *self._pages))
            text = f"This is Postroom. APIs: {paths}. Operations: {operations}.\n"
            await answer(send, 200, text.encode(), b"text/plain; charset=utf-8")
            return
        await answer(send, 404, b'{"error":"Not Found"}', JSON)

    def _told_of(self, send: Send, dialect: str) -> Send:
        answered = self._answered
        if answered is None:
            return send

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered(dialect, message["status"])
            await send(message)

        return telling

    async def _operations(self, scope: Scope, send: Send, *, ready: bool) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, b'{"error":"Method Not Allowed"}', JSON, (b"allow", b"GET, HEAD"))
            return
        missing = list(self._missing()) if ready else []
        told: dict[str, object] = {"status": "not ready", "missing": missing} if missing else {"status": "ok"}
        await answer(
            send, 503 if missing else 200, msgspec.json.encode(told), JSON, (b"cache-control", b"no-store")
        )


def _first_word(path: str) -> str:
    return path.split("/", 2)[1].lower() if path.startswith("/") else ""


def _is_below(path: str, base: str, fold_case: bool) -> bool:
    start = path[: len(base)]
    fits = start.lower() == base.lower() if fold_case else start == base
    return fits and (len(path) == len(base) or path[len(base)] == "/")


def _inside(scope: Scope, path: str, prefix: str, mount: Mount) -> Scope:
    path = path[len(prefix) :]
    if mount.fold_slash and len(path) > 1:
        path = re.sub(r"/{2,}", "/", path).rstrip("/") if path.endswith("/") or "//" in path else path
    folded = path.lower() if mount.fold_case else path
    raw = folded.encode("utf-8", "surrogateescape")
    return {**scope, "path": folded, "raw_path": raw, PREFIX_KEY: prefix, PATH_KEY: path}
