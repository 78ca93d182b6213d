"""Errors: every one in this API's shape, whatever was sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from postroom import errors
from postroom.dialects.broadcast.errors import ROWS, told
from tests.dialects.broadcast.conftest import GOOD, House
from tests.support.http import application


def _tree(kind: type[errors.PostroomError]) -> Iterator[type[errors.PostroomError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


def test_every_error_of_the_tree_has_a_row() -> None:
    named = {kind for kind in _tree(errors.PostroomError) if kind.__module__ == "postroom.errors"}
    assert named <= set(ROWS)


def test_what_nobody_foresaw_is_500_and_tells_nothing() -> None:
    said = told(RuntimeError("SELECT secret FROM somewhere"))
    assert (said.status, said.body) == (500, {"error": "Server error"})


def test_unavailable_says_when_and_what_clients_retry_on() -> None:
    said = told(errors.Unavailable("the disk is full", retry_after_s=7))
    assert (said.status, said.headers["Retry-After"]) == (503, "7")
    assert "Server error" in str(said.body["error"])


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Token prs_x", "prs_x"])
async def test_no_valid_key_is_401(house: House, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/email_servers", "/email_servers/1", "/whoami", "/transactionals/1.json"):
        answer = await house.http.get("/api/v1" + path, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


async def test_keys_are_folded_and_a_revoked_one_is_refused(house: House) -> None:
    assert (await house.call("GET", "/whoami", key=house.server_key.upper())).status_code == 200
    assert (await house.call("GET", "/whoami", key=house.server_key[:-1])).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/email_servers/1/2/3", 404),
        ("PUT", "/email_servers", 405),
        ("TRACE", "/email_servers", 405),
        ("POST", "/whoami", 405),
    ],
)
async def test_w7_what_is_not_routed_has_the_shape_too(
    house: House, method: str, path: str, status: int
) -> None:
    answer = await house.call(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


BAD = [
    b"{",
    b"[]",
    b'"text"',
    b"nul",
    b'{"email_server": NaN}',
    b'{"email_server": {"label": 1e400}}',
    b'{"email_server": {}} trailing',
    b'{"email_server": {"label": "a", "label": "b"}}',
    b'{"email_server": {"label": "\\ud800"}}',
    b'\xef\xbb\xbf{"email_server": {}}',
    '{"email_server": {}}'.encode("utf-16"),
    b'{"a":' * 100_000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
async def test_w1_bad_json_is_400(house: House, body: bytes) -> None:
    answer = await house.call(
        "POST", "/email_servers", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"a;" * 500_000),
        ("application/x-www-form-urlencoded", b"a&" * 500_000),
        ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\n\r\n" * 10_000),
        ("multipart/form-data; boundary=" + "-" * 5000, b"--x--"),
        ("text/" + "a;" * 20_000 + "=", b"x"),
        ("application/json; charset=utf-16", b"x"),
    ],
    ids=["w3 semicolons", "w3 ampersands", "w4 parts", "w4 boundary", "w5 parameters", "w5 charset"],
)
async def test_w3_w4_w5_other_content_types_are_400_at_once(
    house: House, content_type: str, body: bytes
) -> None:
    begun = time.process_time()
    answer = await house.call("POST", "/email_servers", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("body", [{}, {"email_server": None}, {"email_server": {}}, {"label": "x"}])
async def test_a_missing_wrapper_is_400_row_19(house: House, body: object) -> None:
    answer = await house.call("POST", "/email_servers", body)
    assert answer.status_code == 400
    assert answer.json() == {"error": "param is missing or the value is empty: email_server"}


@pytest.mark.parametrize("wrapped", [5, "x", [1]])
async def test_a_wrapper_that_is_no_object_is_400(house: House, wrapped: object) -> None:
    assert (await house.call("POST", "/email_servers", {"email_server": wrapped})).status_code == 400


async def test_w2_every_body_has_a_cap(house: House) -> None:
    huge = json.dumps({"email_server": {**GOOD, "label": "x" * (2 << 20)}}).encode()
    for method, path in (
        ("POST", "/email_servers"),
        ("PATCH", "/email_servers/1"),
        ("POST", "/transactionals.json"),
        ("DELETE", "/email_servers/1"),
    ):
        answer = await house.call(method, path, content=huge)
        assert answer.status_code == 413
        assert set(answer.json()) == {"error"}


async def test_rate_limit_headers_and_429(house: House) -> None:
    app = application(house.ctx, rate_per_minute=None)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        headers = {"Authorization": f"Bearer {house.server_key}"}
        left = []
        for _ in range(120):
            answer = await http.get("/api/v1/nothing", headers=headers)
            answer = await http.get("/api/v1/email_servers/9", headers=headers)
            left.append(int(answer.headers["X-RateLimit-Remaining"]))
        assert left == list(range(119, -1, -1))
        answer = await http.get("/api/v1/whoami", headers=headers)
        assert answer.status_code == 429
        assert set(answer.json()) == {"error"}
        wait = int(answer.headers["Retry-After"])
        assert 0 < wait <= 60
        assert answer.headers["X-RateLimit-Limit"] == "120"
        other = {"Authorization": f"Bearer {house.account_key}"}
        assert (await http.get("/api/v1/whoami", headers=other)).status_code == 200
        house.harness.clock.advance(wait + 1)
        assert (await http.get("/api/v1/whoami", headers=headers)).status_code == 200


async def test_without_a_limit_there_are_no_headers(house: House) -> None:
    assert "X-RateLimit-Limit" not in (await house.call("GET", "/whoami")).headers


async def test_healthz_and_readyz(house: House) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await house.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    app = application(house.ctx, missing=["the engine"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["missing"] == ["the engine"]
