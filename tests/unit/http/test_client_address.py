"""Who a request comes from: proxies of ours are believed, everybody else is what the socket says."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import httpx
import pytest

from postroom.http.app import Mount, http_app
from postroom.http.asgi import Receive, Scope, Send, answer
from postroom.http.client_address import ClientAddress, client_address
from postroom.http.server import serve_http

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:aa::/48"), ip_network("127.0.0.1")]


async def seen(peer: str | None, *headers: tuple[str, str], scheme: str = "http") -> tuple[str, str]:
    """(client address, scheme) as the application behind sees them."""
    found: list[tuple[str, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append((client_address(scope), scope["scheme"]))

    async def nothing() -> dict[str, object]:
        return {}

    async def nowhere(message: object) -> None:
        pass

    scope: Scope = {
        "type": "http",
        "scheme": scheme,
        "client": None if peer is None else (peer, 4711),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    await ClientAddress(app, TRUSTED)(scope, nothing, nowhere)
    return found[0]


def forwarded(*values: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", value) for value in values]


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        ("10.1.2.3", ["192.0.2.7"], "192.0.2.7"),
        ("10.1.2.3", [], "10.1.2.3"),
        # what the client itself sent stands on the left
        ("10.1.2.3", ["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        ("10.1.2.3", ["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        # through two proxies of ours
        ("10.1.2.3", ["198.51.100.1, 192.0.2.7, 10.9.9.9"], "192.0.2.7"),
        ("2001:db8:aa::1", ["2001:db8:ffff::7, 2001:db8:aa::2"], "2001:db8:ffff::7"),
        # everybody is a proxy: the one farthest from us
        ("10.1.2.3", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        # with ports, as some proxies write them
        ("10.1.2.3", ["192.0.2.7:51234"], "192.0.2.7"),
        ("10.1.2.3", ["[2001:db8:ffff::7]:51234"], "2001:db8:ffff::7"),
        # IPv4 in IPv6's clothes, as a dual-stack socket reports it
        ("::ffff:10.1.2.3", ["::ffff:192.0.2.7"], "192.0.2.7"),
        # a peer that is no proxy says nothing about itself
        ("192.0.2.66", ["127.0.0.1"], "192.0.2.66"),
        ("192.0.2.66", ["10.0.0.1"], "192.0.2.66"),
        # what is no address ends what is believed
        ("10.1.2.3", ["192.0.2.7, unknown"], "10.1.2.3"),
        ("10.1.2.3", ["192.0.2.7, unknown, 10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["<script>"], "10.1.2.3"),
        ("10.1.2.3", ["192.0.2.7\\r\\nX: y"], "10.1.2.3"),
        ("10.1.2.3", ["1" * 90_000], "10.1.2.3"),
        ("10.1.2.3", ["192.0.2.7, " + ", ".join(["10.0.0.1"] * 20_000)], "10.0.0.1"),
        ("fe80::1%eth0", [], "fe80::1"),
        (None, ["192.0.2.7"], ""),
    ],
)
async def test_the_client_is_the_last_that_a_proxy_of_ours_reported(
    peer: str | None, told: list[str], client: str
) -> None:
    assert (await seen(peer, *forwarded(*told)))[0] == client


@pytest.mark.parametrize(
    ("peer", "told", "scheme"),
    [
        ("10.1.2.3", ["https"], "https"),
        ("10.1.2.3", ["HTTPS"], "https"),
        ("10.1.2.3", ["http, https"], "https"),
        ("10.1.2.3", ["http", "https"], "https"),
        ("10.1.2.3", ["gopher"], "http"),
        ("10.1.2.3", [], "http"),
        ("192.0.2.66", ["https"], "http"),
    ],
)
async def test_the_scheme_is_what_the_nearest_proxy_said(peer: str, told: list[str], scheme: str) -> None:
    assert (await seen(peer, *[("X-Forwarded-Proto", value) for value in told]))[1] == scheme


@pytest.mark.parametrize(("trusted", "client"), [(["127.0.0.0/8"], "192.0.2.7"), ([], "127.0.0.1")])
async def test_a_server_without_trusted_proxies_believes_nobody(trusted: list[str], client: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, client_address(scope).encode(), b"text/plain")

    whole = http_app(
        [Mount(app, ("/who",), "/own")],
        lambda: (),
        most_body_bytes=1000,
        trusted_proxies=[ip_network(one) for one in trusted],
    )
    listener = socket.create_server(("127.0.0.1", 0))
    handle = await serve_http(whole, listener, drain_s=1.0)
    try:
        async with httpx.AsyncClient(base_url=handle.url) as http:
            told = await http.get("/who", headers={"X-Forwarded-For": "192.0.2.7"})
    finally:
        await handle.stop()
    assert told.text == client
