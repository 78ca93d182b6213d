"""Discovery: who asks, how the channel stands, and documents made from the routes."""

from __future__ import annotations

import yaml

from postroom.core.key import Scope
from postroom.dialects.broadcast.operations import OPERATIONS
from postroom.http.surface import _origin
from tests.dialects.broadcast.conftest import GOOD, House


async def test_whoami_for_a_channels_key(house: House) -> None:
    told = (await house.call("GET", "/whoami.json")).json()
    assert told["channel"] == {"id": house.channel, "name": "Shop", "slug": "shop"}
    assert told["token_type"] == told["type"] == told["token"]["type"] == "channel_scoped"
    assert told["token"]["redacted_value"] == house.server_key[:4] + "•" * 8 + house.server_key[-4:]
    assert set(told["token"]["permissions"]) == {one.value for one in Scope} - {"all"}
    assert all(told["token"]["permissions"].values())


async def test_whoami_for_a_narrow_and_an_account_key(house: House) -> None:
    told = (await house.call("GET", "/whoami", key=await house.key("email_servers_read"))).json()
    assert [name for name, may in told["token"]["permissions"].items() if may] == ["email_servers_read"]
    told = (await house.call("GET", "/whoami", key=house.account_key)).json()
    assert (told["type"], told["channel"]) == ("admin_cross_channel", None)
    path = f"/whoami?broadcast_channel_id={house.other_channel}"
    assert (await house.call("GET", path, key=house.account_key)).json()["channel"]["name"] == "Stall"


async def test_status_tells_what_is_ready(house: House) -> None:
    told = (await house.call("GET", "/status")).json()
    assert told == {
        "channel": {"name": "Shop", "sender_email": "hello@shop.example", "sender_name": "Shop"},
        "subscribers": {"total": 0, "active": 0},
        "readiness": {"broadcasts": False, "sequences": False, "transactionals": False},
    }
    await house.call("POST", "/email_servers", {"email_server": GOOD})
    told = (await house.call("GET", "/status")).json()
    assert told["readiness"] == {"broadcasts": True, "sequences": True, "transactionals": False}


async def test_prime_and_skill(house: House) -> None:
    told = (await house.call("GET", "/prime")).json()
    assert told["platform"]["name"] == "Postroom"
    assert {(one["method"], one["path"]) for one in told["endpoints"]} == {
        (one.method, "/api/v1" + one.path) for one in OPERATIONS
    }
    answer = await house.call("GET", "/skill")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "test_connection" in answer.text


async def test_openapi_describes_what_is_routed_and_answered(house: House) -> None:
    answer = await house.call("GET", "/openapi", headers={"Host": "mail.example:8443"})
    assert answer.headers["Content-Type"] == "application/yaml; charset=utf-8"
    document = yaml.safe_load(answer.text)
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "http://mail.example:8443/api/v1"}]
    described = {(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs}
    assert described == {(one.method, one.path) for one in OPERATIONS} | {("GET", "/openapi")}
    names = [verb["operationId"] for verbs in document["paths"].values() for verb in verbs.values()]
    assert len(names) == len(set(names))
    made = (await house.call("POST", "/email_servers", {"email_server": GOOD})).json()
    schema = document["components"]["schemas"]["EmailServer"]
    assert set(schema["required"]) == set(made)
    for name, value in made.items():
        kinds = schema["properties"][name]["type"]
        kinds = kinds if isinstance(kinds, list) else [kinds]
        assert ("null" in kinds) or value is not None, name


async def test_a_host_that_is_no_address_is_refused_and_not_repeated_w12(house: House) -> None:
    answer = await house.call("GET", "/openapi", headers={"Host": 'x"><script>'})
    assert answer.status_code == 400
    assert answer.json() == {"error": "Bad Request"}
    assert _origin("http", ["a.example", "b.example"], "") == ""
    assert _origin("http", ["mail.example/../x"], "") == ""
