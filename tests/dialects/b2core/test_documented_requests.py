"""The curl lines of the product's documentation, as printed, with our host and token."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.dialects.house import House
from tests.support.curl import read_curl

HEAD = "curl --location --request {method} 'https://host.name/api/v2/mail/providers{path}' \\\n"
TOKEN = "--header 'Authorization: Bearer <token>'"
LIST = HEAD.format(method="GET", path="?limit=10&offset=0") + TOKEN + " \\\n--header 'accept-language: ja'"
SHOW = HEAD.format(method="GET", path="/1") + TOKEN
STATUS = HEAD.format(method="GET", path="/1/status") + TOKEN
CREATE_DATA = """ \\
--data-raw '{
  "driver": "smtp",
  "host": "host.example.com",
  "port": 25,
  "username": "User",
  "password": "Password",
  "sendFrom": "user@example.com",
  "sendFromName": "Company name",
  "encryption": "ssl",
  "isEnabled": 1,
  "caption": "My SMTP connection"
}'"""
CREATE_AS_PRINTED = HEAD.format(method="GET", path="") + TOKEN + CREATE_DATA
CREATE = HEAD.format(method="POST", path="") + TOKEN + CREATE_DATA
UPDATE = (
    HEAD.format(method="PATCH", path="/1")
    + TOKEN
    + """ \\
--data-raw '{
  "caption": "My SMTP connection",
  "driver": "smtp",
  "host": "host.example.com",
  "port": 25,
  "username": "User",
  "password": "Password",
  "sendFrom": "user@example.com",
  "sendFromName": "Company name",
  "encryption": "ssl",
  "isEnabled": 1
}'"""
)
DELETE = HEAD.format(method="DELETE", path="/1") + TOKEN


async def run(house: House, line: str, key: str | None = None) -> httpx.Response:
    """What curl does with the line, at our host."""
    asked = read_curl(line.replace("<token>", key or house.server_key))
    url = asked.url.replace("https://host.name", "http://post.example")
    return await house.http.request(asked.method, url, headers=asked.headers, content=asked.content)


def shown(made: dict[str, Any]) -> dict[str, object]:
    return {
        "id": 1,
        "caption": "My SMTP connection",
        "driver": "smtp",
        "host": "host.example.com",
        "port": 25,
        "username": "User",
        "sendFrom": "user@example.com",
        "sendFromName": "Company name",
        "encryption": "ssl",
        "isEnabled": True,
        "createTime": made["createTime"],
        "updateTime": made["updateTime"],
    }


async def test_every_printed_call_in_turn(house: House) -> None:
    fresh = await run(house, LIST)
    assert (fresh.status_code, fresh.json()) == (200, [])
    made = await run(house, CREATE)
    assert made.status_code == 201
    provider = made.json()
    assert provider == shown(provider)
    assert provider["createTime"].endswith("+00:00")
    assert "." not in provider["createTime"]
    listed = await run(house, LIST)
    assert (listed.status_code, listed.json()) == (200, [provider])
    assert listed.headers["X-Total-Count"] == "1"
    assert (await run(house, SHOW)).json() == provider
    works = await run(house, STATUS)
    assert (works.status_code, works.content) == (204, b"")
    changed = await run(house, UPDATE)
    assert changed.status_code == 200
    assert {**changed.json(), "updateTime": ""} == {**provider, "updateTime": ""}
    # Its only enabled one stays; with another beside it, it goes.
    assert (await run(house, DELETE)).status_code == 409
    assert (await run(house, CREATE)).json()["id"] == 2
    gone = await run(house, DELETE)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await run(house, SHOW)).status_code == 404


async def test_1_the_create_line_as_printed_says_get_and_makes_nothing(house: House) -> None:
    answer = await run(house, CREATE_AS_PRINTED)
    assert (answer.status_code, answer.json()) == (200, [])
    assert (await run(house, LIST)).json() == []


@pytest.mark.parametrize("declared", ["application/x-www-form-urlencoded", "text/plain", "nonsense", None])
async def test_2_a_body_is_json_whatever_is_declared(house: House, declared: str | None) -> None:
    headers = {} if declared is None else {"Content-Type": declared}
    body = CREATE_DATA.split("--data-raw '")[1].removesuffix("'").encode()
    answer = await house.call("POST", "", headers=headers, content=body)
    assert answer.status_code == 201


async def test_an_account_key_has_the_shared_ones(house: House) -> None:
    assert (await run(house, LIST, house.account_key)).json() == []
    mine = (await run(house, CREATE)).json()
    shared = (await run(house, CREATE, house.account_key)).json()
    assert mine["id"] != shared["id"]
    assert (await run(house, LIST)).json() == [mine]
    assert (await run(house, LIST, house.account_key)).json() == [shared]
