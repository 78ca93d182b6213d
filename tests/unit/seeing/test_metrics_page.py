"""Who may read /metrics, by the address of the client as it really is."""

from __future__ import annotations

import gzip
from ipaddress import ip_network

import pytest

from postroom.http.app import http_app
from postroom.http.asgi import Message, Scope
from postroom.http.client_address import Network
from postroom.http.metrics import MetricsPage
from postroom.secret import Secret

TOKEN = "scrape-me-not-0123456789"
BODY = b"# HELP x y\n" * 100


class Page:
    """The page behind the whole of `http_app`, asked without a socket."""

    def __init__(self, token: str = "", trusted: tuple[str, ...] = ()) -> None:
        async def render(accept: str) -> tuple[bytes, str]:
            self.accept = accept
            return BODY, "text/plain; version=0.0.4; charset=utf-8"

        networks: list[Network] = [ip_network(one) for one in trusted]
        self.told: list[tuple[str, int]] = []
        self.app = http_app(
            [],
            list,
            most_body_bytes=1000,
            pages={"/metrics": MetricsPage(render, Secret(token))},
            answered=lambda dialect, status: self.told.append((dialect, status)),
            trusted_proxies=networks,
        )

    async def ask(
        self, client: str | None = "127.0.0.1", method: str = "GET", **headers: str | list[str]
    ) -> tuple[int, dict[str, str], bytes]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        raw = [
            (name.replace("_", "-").encode(), one.encode())
            for name, value in headers.items()
            for one in ([value] if isinstance(value, str) else value)
        ]
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": "/metrics",
            "headers": raw,
            "scheme": "http",
            "client": None if client is None else (client, 1234),
        }
        await self.app(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(one.get("body", b"") for one in sent[1:])


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
async def test_programs_on_this_machine_may_read_it(client: str) -> None:
    status, headers, body = await Page().ask(client)
    assert (status, body) == (200, BODY)
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("client", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", None, "x"])
async def test_without_a_token_it_is_not_there_for_others(client: str | None) -> None:
    assert (await Page().ask(client))[0] == 404
    assert (await Page().ask(client, authorization="Bearer "))[0] == 404
    assert (await Page().ask(client, authorization=f"Bearer {TOKEN}"))[0] == 404


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip", "via", "x_forwarded_host"])
async def test_what_a_proxy_forwarded_is_not_from_this_machine(header: str) -> None:
    """A proxy on this host that nobody named in trusted_proxies must not open it to the world."""
    assert (await Page().ask(**{header: "127.0.0.1"}))[0] == 404
    assert (await Page(TOKEN).ask(**{header: "127.0.0.1"}))[0] == 401


async def test_behind_a_trusted_proxy_the_client_counts() -> None:
    page = Page(TOKEN, trusted=("10.0.0.0/8",))
    assert (await page.ask("10.0.0.1", x_forwarded_for="192.0.2.7"))[0] == 401
    assert (await page.ask("10.0.0.1", x_forwarded_for="127.0.0.1"))[0] == 401
    allowed = await page.ask("10.0.0.1", x_forwarded_for="192.0.2.7", authorization=f"Bearer {TOKEN}")
    assert allowed[0] == 200


async def test_the_token_opens_it_from_anywhere() -> None:
    page = Page(TOKEN)
    status, headers, _ = await page.ask("192.0.2.1")
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="metrics"')
    assert (await page.ask("192.0.2.1", authorization=f"Bearer {TOKEN}"))[0] == 200
    assert (await page.ask("192.0.2.1", authorization=f"bearer  {TOKEN} "))[0] == 200
    assert (await page.ask())[0] == 200


@pytest.mark.parametrize(
    "given",
    [
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer",
        "Bearer é",
        "Bearer " + "x" * 50_000,
        [f"Bearer {TOKEN}", "Bearer other"],
    ],
)
async def test_anything_else_is_refused(given: str | list[str]) -> None:
    status, _, body = await Page(TOKEN).ask("192.0.2.1", authorization=given)
    assert status == 401
    assert TOKEN.encode() not in body


async def test_it_is_only_read() -> None:
    page = Page(TOKEN)
    for method in ("POST", "PUT", "DELETE", "TRACE", "OPTIONS", "BREW"):
        status, headers, _ = await page.ask(method=method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert (await page.ask("192.0.2.1", method=method))[0] == 401
    status, headers, _ = await page.ask(method="HEAD")
    assert (status, headers["content-length"]) == (200, str(len(BODY)))
    assert set(page.told) == {("operations", 405), ("operations", 401), ("operations", 200)}


@pytest.mark.parametrize(
    ("accepted", "small"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("identity", False),
        ("", False),
        ("xgzip, gzipped", False),
    ],
)
async def test_it_is_small_for_whom_takes_that(accepted: str, small: bool) -> None:
    page = Page()
    _, headers, body = await page.ask(accept_encoding=accepted, accept="text/plain")
    assert ("content-encoding" in headers) == small
    assert (gzip.decompress(body) if small else body) == BODY
    assert int(headers["content-length"]) == len(body)
    assert page.accept == "text/plain"
