"""Who may ask, how a path may be spelled, and what an error looks like."""

from __future__ import annotations

import pytest

from postroom.actions.keys import revoke_key
from postroom.core.server import Owner
from postroom.ids import KeyId
from tests.dialects.house import House
from tests.dialects.postmark.conftest import ACCOUNT_TOKEN, SERVER_TOKEN, Postmark
from tests.support.context import ACTOR


async def test_no_token_is_told_which_headers_there_are(house: House) -> None:
    answer = await house.http.get("/server")
    assert answer.status_code == 401
    assert answer.json()["ErrorCode"] == 10
    assert SERVER_TOKEN in answer.json()["Message"]
    assert "www-authenticate" not in answer.headers
    assert (await house.http.get("/server", headers={"Authorization": f"Bearer {house.server_key}"})).json()[
        "ErrorCode"
    ] == 10


@pytest.mark.parametrize("name", [SERVER_TOKEN, SERVER_TOKEN.lower(), SERVER_TOKEN.upper()])
async def test_a_tokens_header_and_letters_may_be_in_any_case(house: House, name: str) -> None:
    for token in (house.server_key, house.server_key.upper(), f" {house.server_key} "):
        answer = await house.http.get("/server", headers={name: token})
        assert answer.json()["ID"] == house.channel


async def test_w19_a_token_that_is_not_the_one_wanted_is_refused_alike(postmark: Postmark) -> None:
    house = postmark.house
    narrow = await house.key("transactionals_write")
    said = {
        await postmark.refused(10, "GET", "/server", token=one)
        for one in (house.account_key, "", "x", "prs_" + "a" * 36, "a" * 5000, "POSTMARK_API_TEST")
    }
    assert len(said) == 1
    assert await postmark.refused(10, "GET", "/server", token=narrow)
    both = {SERVER_TOKEN: house.account_key, ACCOUNT_TOKEN: house.server_key}
    assert (await house.http.get("/server", headers=both)).status_code == 401
    await revoke_key(house.ctx, ACTOR, Owner(house.account), KeyId(1))
    assert await postmark.refused(10, "GET", "/server") in said


async def test_two_tokens_that_differ_are_refused(house: House) -> None:
    headers = [(SERVER_TOKEN, house.server_key), (SERVER_TOKEN, house.foreign_key)]
    assert (await house.http.get("/server", headers=headers)).status_code == 401
    both = {SERVER_TOKEN: house.server_key, ACCOUNT_TOKEN: house.account_key}
    assert (await house.http.get("/server", headers=both)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/server", "/server/", "/Server", "/SERVER//", "/postmark/server", "/POSTMARK/Server/"],
)
async def test_a_path_may_be_in_any_case_with_a_slash_at_its_end(postmark: Postmark, path: str) -> None:
    assert (await postmark.ok("GET", path))["Name"] == "Shop"


@pytest.mark.parametrize("path", ["/server/1", "/servers/1/2/3", "/email/nothing", "/stats", "/Webhooks/x"])
async def test_a_path_that_is_not_there_is_told_in_the_products_shape(postmark: Postmark, path: str) -> None:
    assert await postmark.refused(404, "GET", path)


async def test_a_method_that_is_not_there_is_told_in_the_products_shape(postmark: Postmark) -> None:
    assert await postmark.refused(405, "TRACE", "/server")


async def test_a_foreign_token_sees_its_own_server_only(postmark: Postmark) -> None:
    shown = await postmark.ok("GET", "/server", token=postmark.house.foreign_key)
    assert shown["ID"] == postmark.house.foreign_channel
