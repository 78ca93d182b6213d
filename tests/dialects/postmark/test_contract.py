"""The document, the routes and the errors: nothing is answered that the document does not say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from postroom import errors
from postroom.dialects import postmark as dialect
from postroom.dialects.postmark.calls import Op, Token
from postroom.dialects.postmark.codes import CODES
from postroom.dialects.postmark.errors import ROWS, ApiError, told
from postroom.dialects.postmark.operations import OPERATIONS
from postroom.http.asgi import ASGIApp
from tests.dialects.house import House, filled
from tests.dialects.postmark.conftest import ACCOUNT_TOKEN, SERVER_TOKEN, Postmark
from tests.support.http import application

WRITTEN = Path(dialect.__file__).parent
# One of every shape a client may get wrong; in no order.
NASTY: tuple[object, ...] = (
    *(None, True, -1, 0, 1, 31, 2**63, 1.5, "", " ", "x", "\u0000", "a\r\nb: c", "é" * 400, "2026-02-30"),
    *([], [None], [[]], {}, {"": 0}, {"EmailAddress": "ann@example.net"}, ["ann@example.net"] * 51),
    *("http://hooks.example/", "http://127.0.0.1/", "None", "Inbound", "ann@example.net", "<b>", "{{x}}"),
)


def headers_of(house: House, op: Op) -> dict[str, str]:
    return {
        SERVER_TOKEN: house.server_key,
        ACCOUNT_TOKEN: house.account_key if op.token is not Token.SERVER else "unused",
    }


async def document_of(house: House) -> Any:  # Any: YAML
    answer = await house.http.get("/servers/openapi", headers={SERVER_TOKEN: house.server_key})
    assert answer.status_code == 200, answer.text
    return yaml.safe_load(answer.text)


async def test_the_document_describes_every_call(house: House) -> None:
    document = await document_of(house)
    schemas = document["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document))) == set(schemas)
    described = {(method.upper(), path) for path, calls in document["paths"].items() for method in calls}
    assert described == {(one.method, one.path) for one in OPERATIONS} | {("GET", "/servers/openapi")}
    assert document["components"]["securitySchemes"]["Account"]["name"] == ACCOUNT_TOKEN
    assert document["paths"]["/servers"]["post"]["security"] == [{"Account": []}]
    assert document["paths"]["/message-streams/{stream}"]["get"]["security"] == [{"Server": []}]


async def test_every_route_in_any_case_with_any_slash_and_below_the_prefix(house: House) -> None:
    """Nothing of a path's spelling makes it another path: it is refused for what it lacks, or is answered."""
    for op in OPERATIONS:
        path = filled(op.path, 99, "nothing")
        spellings = (path, path + "/?", path.upper(), path.title() + "//?x=1", f"/postmark{path}/")
        for one in (*spellings, f"/PostMark{path}"):
            answer = await house.http.request(op.method, one, headers=headers_of(house, op))
            missing = 404 if op.path == "/email/bulk/{bulk}" else 422
            assert answer.status_code in (200, missing), (one, answer.text)


async def test_whatever_is_sent_the_answer_is_a_documented_one(house: House) -> None:
    document = await document_of(house)
    for op in sorted(OPERATIONS, key=lambda one: one.method == "DELETE"):  # that takes the server away
        described = document["paths"][op.path][op.method.lower()]
        path = filled(op.path, house.other_channel, "broadcast")
        queries = [
            "",
            *(f"{name}={value}" for name in op.query for value in ("", "-1", "x", "All", "2026-1-1")),
        ]
        for number, body in enumerate(bodies_of(op, sorted(names_of(described, document)))):
            answer = await house.http.request(
                op.method,
                f"{path}?{queries[number % len(queries)]}",
                headers=headers_of(house, op),
                content=b"" if body is None else json.dumps(body).encode(),
            )
            assert str(answer.status_code) in described["responses"], (op.path, body, answer.text)
            assert answer.status_code < 500, (op.path, body, answer.text)
            if answer.status_code != 200:
                said = answer.json()
                assert said["ErrorCode"] in CODES, said
                assert said["Message"]
                several = {"Errors"} if said["ErrorCode"] == 11 else set()
                assert set(said) == {"ErrorCode", "Message", *several}


# Bodies that are wrong as such, whatever the call: (what is sent, the status of its refusal).
WRONG: tuple[tuple[str, bytes], ...] = (
    ("no JSON", b"{"),
    ("text after it", b"{} {}"),
    ("a number", b"17"),
    ("a text", b'"x"'),
    ("NaN", b'{"Name": NaN}'),
    ("1e400", b'{"Name": 1e400}'),
    ("one name twice", b'{"Name": "a", "Name": "b"}'),
    ("one name twice but for its case", b'{"Name": "a", "name": "b"}'),
    ("too deep", b'{"Metadata":' + b"[" * 100 + b"]" * 100 + b"}"),
    ("far too deep", b"[" * 100_000),
    ("too many values", b"[" + b"0," * 250_000 + b"0]"),
    ("a mark in front", b"\xef\xbb\xbf{}"),
    ("UTF-16", '{"Name": "a"}'.encode("utf-16")),
    ("no UTF-8", b'{"Name": "\xff"}'),
    ("half a character", b'{"Name": "\\ud800"}'),
)


async def test_w1_w2_json_that_is_wrong_as_such_is_refused_by_every_call(house: House) -> None:
    """And what no call could take is too large for each."""
    for op in OPERATIONS:
        path = filled(op.path, house.channel, "broadcast")
        if not op.takes:
            continue
        for what, content in WRONG:
            headers = headers_of(house, op)
            answer = await house.http.request(op.method, path, headers=headers, content=content)
            assert answer.status_code == 422, (op.method, op.path, what, answer.text)
            assert answer.json()["ErrorCode"] in (402, 403), (op.method, op.path, what, answer.text)
        huge = b'{"Name": "' + b"x" * (60 << 20) + b'"}' if op.holds_message else b" " * (2 << 20)
        answer = await house.http.request(op.method, path, headers=headers, content=huge)
        assert (answer.status_code, answer.json()["ErrorCode"]) == (413, 413), (op.method, op.path)


def bodies_of(op: Op, names: list[str]) -> list[object]:
    """Each nasty value as the whole, in every field, and, a quarter of them, in each field alone."""
    if not op.takes:
        return [None, *NASTY[::3]]
    alone = [{name: value} for place, name in enumerate(names) for value in NASTY[place % 4 :: 4]]
    return [None, *NASTY, *(dict.fromkeys(names, value) for value in NASTY), *alone]


def names_of(described: Any, document: Any) -> list[str]:  # Any: YAML
    content = described.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return []
    name = content["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    if schema["type"] == "array":
        schema = document["components"]["schemas"][schema["items"]["$ref"].rpartition("/")[2]]
    return list(schema["properties"])


def test_every_error_of_the_tree_has_a_row() -> None:
    def tree(kind: type[errors.PostroomError]) -> set[type[errors.PostroomError]]:
        return {kind}.union(*(tree(below) for below in kind.__subclasses__()))

    named = {kind for kind in tree(errors.PostroomError) if kind.__module__ == "postroom.errors"}
    assert named <= set(ROWS)


def test_every_code_says_something_and_has_the_status_of_its_text() -> None:
    for code, (status, text) in CODES.items():
        assert status in (400, 401, 404, 409, 413, 422, 429, 500, 503)
        assert text.endswith((".", "?")), text
        assert ApiError(code, "this").body() == {"ErrorCode": code, "Message": text.replace("{}", "this")}


def test_what_nobody_foresaw_is_500_and_tells_nothing() -> None:
    said = told(RuntimeError("SELECT secret FROM somewhere"))
    assert (said.status, said.body["ErrorCode"], said.headers["X-PM-ApiErrorCode"]) == (500, 101, "101")
    assert "secret" not in str(said.body)


def test_what_cannot_be_promised_now_is_503() -> None:
    said = told(errors.Unavailable("the disk is full", retry_after_s=7))
    assert (said.status, said.body["ErrorCode"], said.headers["Retry-After"]) == (503, 100, "7")
    assert "disk" not in str(said.body)


async def test_too_many_requests_are_told_by_429_where_there_is_a_limit(house: House) -> None:
    limited = await asked(application(house.ctx, rate_per_minute=2), house, 3)
    assert [one[0] for one in limited] == [200, 200, 429]
    assert limited[2][1]["ErrorCode"] == 429
    # The product names no figure, so without the setting there is none.
    assert {one[0] for one in await asked(application(house.ctx, rate_per_minute=None), house, 200)} == {200}


async def asked(app: ASGIApp, house: House, times: int) -> list[tuple[int, Any]]:  # Any: JSON
    import httpx

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://post.example") as http:
        headers = {SERVER_TOKEN: house.server_key}
        answers = [await http.get("/message-streams", headers=headers) for _ in range(times)]
        return [(one.status_code, one.json()) for one in answers]


async def test_paths_that_are_not_built_yet_say_so_in_the_products_shape(postmark: Postmark) -> None:
    for path in ("/email", "/Templates/", "/bounces?count=1&offset=0", "/deliveryStats", "/webhooks"):
        if any(one.path == path.lower().partition("?")[0].rstrip("/") for one in OPERATIONS):
            continue
        assert await postmark.refused(404, "GET", path)


def test_only_a_dialect() -> None:
    for path in WRITTEN.glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) postroom\.(\w+)", path.read_text("utf-8"), re.MULTILINE)
        assert not {"engine", "storage", "inbound", "wiring"}.intersection(imported), path
