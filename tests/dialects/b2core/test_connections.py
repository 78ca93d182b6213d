"""Every field, every rule, and how each thing the documentation leaves open is resolved."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from postroom.actions import connections, identities
from postroom.core.connection import Security
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.engine.router import FRESH, load_facts
from postroom.engine.routing import decide
from postroom.ids import ConnectionId, LaneId
from postroom.storage.lanes import Lane
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.dialects.b2core.conftest import GOOD
from tests.dialects.house import House
from tests.support.context import ACTOR, REFUSED_LOGIN

MISSING = object()


async def make(house: House, key: str | None = None, **change: object) -> dict[str, Any]:
    given = {name: value for name, value in {**GOOD, **change}.items() if value is not MISSING}
    answer = await house.call("POST", "", given, key=key)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def refused(house: House, **change: object) -> dict[str, Any]:
    given = {name: value for name, value in {**GOOD, **change}.items() if value is not MISSING}
    answer = await house.call("POST", "", given)
    assert answer.status_code == 400, answer.text
    said: dict[str, Any] = answer.json()
    assert set(said) == {"message", "errors"}
    assert said["message"] == "The given data is not valid"
    errors: dict[str, Any] = said["errors"]
    return errors


async def stored(house: House, number: int) -> Any:
    owner = Owner(house.account, house.channel)
    return await connections.get_connection(house.ctx, owner, ConnectionId(number), with_secrets=True)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "caption"])
async def test_every_field_but_the_caption_is_required(house: House, name: str) -> None:
    for value in (MISSING, None, ""):
        assert await refused(house, **{name: value}) == {name: ["can't be blank"]}


async def test_all_that_is_wrong_is_told_at_once(house: House) -> None:
    answer = await house.call("POST", "", {"host": "a b", "port": 70_000, "encryption": "none"})
    assert answer.status_code == 400
    blank, listed = ["can't be blank"], ["is not included in the list"]
    assert answer.json()["errors"] == {
        "driver": blank,
        "host": ["is not a valid host name"],
        "port": ["must be less than or equal to 65535"],
        "username": blank,
        "password": blank,
        "sendFrom": blank,
        "sendFromName": blank,
        "encryption": listed,
        "isEnabled": blank,
    }


async def test_a_provider_is_a_connection_for_transactional_mail(house: House) -> None:
    made = await make(house)
    connection = await stored(house, made["id"])
    assert connection.purposes == {Purpose.TRANSACTIONAL}
    assert (connection.hourly_cap, connection.daily_cap) == (None, None)
    assert connection.auth == "auto"
    assert connection.sender == '"Company name" <user@example.com>'
    assert connection.secrets == {"smtp_username": "User", "smtp_password": "Password"}


async def test_without_a_caption_it_is_called_like_its_host(house: House) -> None:
    for given in (MISSING, None, ""):
        assert (await make(house, caption=given))["caption"] == "host.example.com"


# --- what the documentation leaves open ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"), [(True, True), (1, True), ("1", True), (False, False), (0, False), ("0", False)]
)
async def test_3_enabled_is_a_flag_in_many_spellings_and_a_boolean_back(
    house: House, given: object, shown: bool
) -> None:
    assert (await make(house, isEnabled=given))["isEnabled"] is shown
    await make(house)  # so that the first may be switched off
    answer = await house.call("PATCH", "/1", {"isEnabled": given})
    assert answer.json()["isEnabled"] is shown


@pytest.mark.parametrize("given", [2, -1, "true", "yes", [], {}, 1.5])
async def test_3_anything_else_is_no_flag(house: House, given: object) -> None:
    assert await refused(house, isEnabled=given) == {"isEnabled": ["is not included in the list"]}


@pytest.mark.parametrize(
    ("encryption", "port", "security"),
    [
        ("ssl", 25, Security.IMPLICIT),
        ("ssl", 465, Security.IMPLICIT),
        ("tls", 465, Security.REQUIRED),
        ("tls", 587, Security.REQUIRED),
    ],
)
async def test_4_the_encryption_field_decides_not_the_port(
    house: House, encryption: str, port: int, security: Security
) -> None:
    made = await make(house, encryption=encryption, port=port)
    assert (made["encryption"], made["port"]) == (encryption, port)
    assert (await stored(house, made["id"])).security is security


@pytest.mark.parametrize("given", ["none", "starttls", "SSL", 1, True, []])
async def test_5_there_is_no_other_encryption(house: House, given: object) -> None:
    assert await refused(house, encryption=given) == {"encryption": ["is not included in the list"]}


async def test_6_the_list_is_a_bare_array_with_its_total_in_a_header(house: House) -> None:
    made = [await make(house, caption=f"Number {number}") for number in range(3)]
    answer = await house.call("GET", "?limit=1&offset=1")
    assert (answer.json(), answer.headers["X-Total-Count"]) == ([made[1]], "3")
    for query in ("", "?limit=0", "?limit=-1", "?limit=ten", "?limit=1000000000", "?offset=-3"):
        assert (await house.call("GET", query)).json() == made
    assert (await house.call("GET", "?offset=1000000000000000000000")).json() == []


async def test_9_and_10_status_changes_nothing_and_says_why(house: House) -> None:
    made = await make(house)
    before = await stored(house, 1)
    house.harness.prober.outcome = Outcome(
        Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text="cannot connect: timed out"
    )
    answer = await house.call("GET", "/1/status")
    assert answer.status_code == 400
    assert answer.json() == {
        "message": "The server did not answer in time",
        "errors": {},
        "reason": "timeout",
        "detail": "cannot connect: timed out",
    }
    assert await stored(house, 1) == before
    assert (await house.call("GET", "/1")).json() == made
    assert len(house.harness.prober.asked) == 1


async def test_11_the_driver_is_smtp(house: House) -> None:
    assert await refused(house, driver="sendmail") == {"driver": ["is not included in the list"]}
    await make(house)
    answer = await house.call("PATCH", "/1", {"driver": "ses"})
    assert (answer.status_code, answer.json()["errors"]) == (400, {"driver": ["is not included in the list"]})


async def test_12_the_last_enabled_one_stays(house: House) -> None:
    await make(house)
    off = await make(house, isEnabled=0)
    text = "The only enabled connection can be neither switched off nor deleted"
    for answer in (await house.call("PATCH", "/1", {"isEnabled": 0}), await house.call("DELETE", "/1")):
        assert (answer.status_code, answer.json()) == (409, {"message": text, "errors": {}})
    assert (await house.call("DELETE", f"/{off['id']}")).status_code == 204
    assert (await house.call("PATCH", "/1", {"caption": "Still there"})).json()["isEnabled"] is True


async def test_12_two_that_switch_each_other_off_at_once(house: House) -> None:
    await make(house)
    await make(house)
    answers = await asyncio.gather(
        house.call("PATCH", "/1", {"isEnabled": 0}), house.call("PATCH", "/2", {"isEnabled": 0})
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_13_of_several_the_lowest_number_sends_and_the_next_when_it_fails(house: House) -> None:
    for _ in range(3):
        await make(house)
    account = house.account
    await identities.trust(house.ctx, ACTOR, "user@example.com", account)

    async def ranked() -> tuple[int, ...]:
        lane = Lane(
            LaneId(1), account, house.channel, Purpose.TRANSACTIONAL, "outbound", "user@example.com", None
        )
        facts = await house.ctx.store.read(lambda: load_facts(lane, lambda _: FRESH, lambda _: True))
        return decide(facts).chosen

    assert await ranked() == (1, 2, 3)
    house.harness.prober.outcome = REFUSED_LOGIN
    owner = Owner(account, house.channel)
    await connections.test_connection(house.ctx, ACTOR, owner, ConnectionId(1))
    assert await ranked() == (2, 3)


@pytest.mark.parametrize("given", ["", None])
async def test_14_a_password_is_kept_when_left_out_and_never_emptied(house: House, given: object) -> None:
    await make(house)
    answer = await house.call("PATCH", "/1", {"password": given})
    assert (answer.status_code, answer.json()["errors"]) == (400, {"password": ["can't be blank"]})
    assert (await house.call("PATCH", "/1", {"host": "other.example.com"})).status_code == 200
    assert (await stored(house, 1)).secrets["smtp_password"] == "Password"


# --- changing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("caption", "Other"),
        ("host", "other.example.com"),
        ("port", 2525),
        ("username", "Somebody"),
        ("sendFrom", "other@example.com"),
        ("sendFromName", 'Say "hi", Jörg'),
        ("encryption", "tls"),
    ],
)
async def test_each_field_changes_alone(house: House, name: str, value: object) -> None:
    made = await make(house)
    answer = await house.call("PATCH", "/1", {name: value})
    assert answer.status_code == 200
    assert {**answer.json(), "updateTime": ""} == {**made, name: value, "updateTime": ""}


async def test_a_new_password_goes_in_and_never_out(house: House) -> None:
    await make(house)
    answer = await house.call("PATCH", "/1", {"password": "hunter2hunter2"})
    assert answer.status_code == 200
    assert "password" not in answer.json()
    assert "hunter2" not in answer.text
    assert (await stored(house, 1)).secrets["smtp_password"] == "hunter2hunter2"


async def test_nothing_known_changes_nothing(house: House) -> None:
    made = await make(house)
    for given in ({}, {"id": 9, "createTime": "x", "account_id": 2, "failed_at": None}):
        answer = await house.call("PATCH", "/1", given)
        assert (answer.status_code, answer.json()) == (200, made)


# --- who may -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_a_foreign_provider_looks_like_none(house: House, method: str) -> None:
    await make(house)
    body = {"caption": "Mine"} if method == "PATCH" else None
    foreign = await house.call(method, "/1", body, key=house.foreign_key)
    absent = await house.call(method, "/999", body)
    assert (foreign.status_code, foreign.json()) == (absent.status_code, absent.json())
    assert foreign.json() == {"message": "Provider not found", "errors": {}}


@pytest.mark.parametrize("number", ["0", "-1", "1.0", "abc", "99999999999999999999", "1%00", "１"])
async def test_what_is_no_number_is_no_provider(house: House, number: str) -> None:
    await make(house)
    assert (await house.call("GET", f"/{number}")).status_code == 404


async def test_w19_a_key_that_may_only_read_changes_nothing(house: House) -> None:
    await make(house)
    key = await house.key("email_servers_read")
    assert (await house.call("GET", "/1", key=key)).status_code == 200
    assert (await house.call("GET", "/1/status", key=key)).status_code == 204
    for method, path, body in (("POST", "", GOOD), ("PATCH", "/1", {}), ("DELETE", "/1", None)):
        answer = await house.call(method, path, body, key=key)
        assert (answer.status_code, answer.json()["message"]) == (403, "The token does not allow this")


async def test_15_an_error_has_a_message_and_the_fields_it_is_about(house: House) -> None:
    for answer in (
        await house.call("GET", "/9"),
        await house.call("POST", "", {}),
        await house.call("POST", "", content=b"{"),
        await house.call("PUT", "", {}),
    ):
        assert set(answer.json()) == {"message", "errors"}
        assert isinstance(answer.json()["message"], str)
        assert all(isinstance(texts, list) for texts in answer.json()["errors"].values())


async def test_no_token(house: House) -> None:
    answer = await house.http.get("/api/v2/mail/providers")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json() == {"message": "The token is missing or not known", "errors": {}}


async def test_made_here_and_seen_in_the_other_dialect_and_back(house: House) -> None:
    made = await make(house)
    headers = {"Authorization": f"Bearer {house.server_key}"}
    there = await house.http.get("/api/v1/email_servers/1", headers=headers)
    assert (there.json()["label"], there.json()["smtp_port"]) == (made["caption"], made["port"])
    postmark = {
        "label": "By its API",
        "vendor": "postmark",
        "delivery_method": "api",
        "postmark_api_token": "x" * 36,
        "emails_per_hour": 500,
        "use_for_transactionals": True,
    }
    body = {"email_server": postmark}
    assert (await house.http.post("/api/v1/email_servers", headers=headers, json=body)).status_code == 201
    shown = (await house.call("GET", "/2")).json()
    assert (shown["driver"], shown["host"], shown["encryption"]) == ("postmark", "", "ssl")
    assert (shown["sendFrom"], shown["sendFromName"]) == ("", "")


# --- hostile input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [0, 65_536, -1, "587", "587; ls", 1.5, True, 2**63, [25]])
async def test_w17_ports_that_are_none(house: House, port: object) -> None:
    assert set(await refused(house, port=port)) == {"port"}


@pytest.mark.parametrize(
    "address", ["a@b@c", "alice@trusted.com)bob@evil.com", "x", "a@b\r\nBcc: c@d", "A <a@b.example>", 7, []]
)
async def test_a1_and_h1_send_from_is_one_plain_address(house: House, address: object) -> None:
    assert set(await refused(house, sendFrom=address)) == {"sendFrom"}


@pytest.mark.parametrize("name", ["A\r\nBcc: x@y.example", "A\0", "A\u2028B", 5, ["x"]])
async def test_h1_names_with_line_breaks(house: House, name: object) -> None:
    assert set(await refused(house, sendFromName=name)) == {"sendFromName"}


@pytest.mark.parametrize("caption", ["x" * 10_000, "a\0b", "\u202eevil", 5])
async def test_w18_captions(house: House, caption: object) -> None:
    assert set(await refused(house, caption=caption)) == {"caption"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"[]", "The body must be a JSON object"),
        (b'{"a": NaN}', "The body is not valid JSON"),
        (b'{"port": 1, "port": 2}', "The JSON has the same name twice in one object"),
        (b'{"a": ' + b"[" * 100_000, "The JSON is nested more than 64 deep"),
        (b"driver=smtp&host=x", "The body is not valid JSON"),
    ],
)
async def test_w1_bodies_that_are_no_json(house: House, body: bytes, text: str) -> None:
    answer = await house.call("POST", "", content=body)
    assert (answer.status_code, answer.json()) == (400, {"message": text, "errors": {}})
