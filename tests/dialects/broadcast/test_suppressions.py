"""The suppression list by Broadcast's API: documented answers whole, then what else people send."""

from __future__ import annotations

import json

import pytest
from broadcast_python import AuthenticationError, Broadcast, ValidationError

from postroom.actions import keys, suppressions
from postroom.clock import to_iso
from postroom.core.key import Scope
from postroom.core.server import Owner
from postroom.core.suppression import Reason
from tests.dialects.broadcast.conftest import GOOD, MAIL, House
from tests.dialects.broadcast.test_official_client import call
from tests.support.context import ACTOR
from tests.support.http import running_app

ANN = "ann@example.net"


async def test_documented_add_check_remove(house: House) -> None:
    answer = await house.call("POST", "/suppressions.json", {"email": ANN})
    assert (answer.status_code, answer.json()) == (201, {"id": 1, "email": ANN, "scope": "channel"})
    answer = await house.call("POST", "/suppressions.json", {"email": "ANN@Example.NET"})
    assert (answer.status_code, answer.json()) == (200, {"id": 1, "email": ANN, "scope": "channel"})
    answer = await house.call("GET", "/suppressions/check.json?email=Ann@example.net")
    assert (answer.status_code, answer.json()) == (
        200,
        {"email": ANN, "suppressed": True, "scope": "channel"},
    )
    answer = await house.call("DELETE", "/suppressions.json", {"email": ANN})
    assert (answer.status_code, answer.json()) == (200, {"email": ANN, "removed": True})
    answer = await house.call("DELETE", f"/suppressions?email={ANN}")  # without a body
    assert (answer.status_code, answer.json()) == (200, {"email": ANN, "removed": False})
    answer = await house.call("GET", f"/suppressions/check?email={ANN}")
    assert answer.json() == {"email": ANN, "suppressed": False, "scope": None}


async def test_documented_bulk(house: House) -> None:
    await house.call("POST", "/suppressions", {"email": ANN})
    many = ["a@example.com", "A@Example.com", "b@example.com", "Ann@example.net", "no address", ""]
    answer = await house.call("POST", "/suppressions/bulk.json", {"emails": many})
    assert answer.status_code == 200
    assert answer.json() == {"added": 2, "already_suppressed": 1, "invalid": ["no address", ""]}
    answer = await house.call(
        "DELETE", "/suppressions/bulk.json", {"emails": ["a@example.com", "z@y.com", "?"]}
    )
    assert (answer.status_code, answer.json()) == (200, {"removed": 1, "not_found": 2})


async def test_the_list_in_pages_with_a_filter(house: House) -> None:
    people = [f"p{n:03}@example.com" for n in range(251)]
    await house.call("POST", "/suppressions/bulk", {"emails": [*people, ANN]})
    first = (await house.call("GET", "/suppressions.json")).json()
    assert first["suppressions"][0] == {
        "id": 1,  # rows are written in the order of the addresses
        "email": ANN,
        "scope": "channel",
        "reason": "manual",
        "created_at": to_iso(house.harness.clock.now_us()),
    }
    assert first["pagination"] == {
        "total": 252,
        "count": 250,
        "from": 1,
        "to": 250,
        "current": 1,
        "total_pages": 2,
    }
    last = (await house.call("GET", "/suppressions.json?page=2")).json()
    assert [one["email"] for one in last["suppressions"]] == people[-2:]
    assert (last["pagination"]["from"], last["pagination"]["to"]) == (251, 252)
    beyond = (await house.call("GET", "/suppressions.json?page=3")).json()
    assert (beyond["suppressions"], beyond["pagination"]["from"]) == ([], 0)
    found = (await house.call("GET", "/suppressions.json?email=ANN")).json()
    assert [one["email"] for one in found["suppressions"]] == [ANN]
    assert (await house.call("GET", "/suppressions.json?email=p00_")).json()["pagination"]["total"] == 0


async def test_an_unsubscribe_of_one_stream_is_not_on_the_channels_list(house: House) -> None:
    owner = Owner(house.account, house.channel)
    await suppressions.suppress(
        house.ctx, ACTOR, owner, house.channel, [ANN], reason=Reason.UNSUBSCRIBE, stream="broadcast"
    )
    assert (await house.call("GET", "/suppressions")).json()["pagination"]["total"] == 0
    assert (await house.call("GET", f"/suppressions/check?email={ANN}")).json()["suppressed"] is False
    assert (await house.call("DELETE", "/suppressions", {"email": ANN})).json()["removed"] is False


async def test_a_suppressed_address_gets_nothing(house: House) -> None:
    await house.call("POST", "/email_servers", {"email_server": {**GOOD, "use_for_transactionals": True}})
    await house.call("POST", "/suppressions", {"email": "ANN@example.NET"})
    for status in ("failed", "queued"):
        number = (await house.call("POST", "/transactionals", MAIL)).json()["id"]
        assert (await house.call("GET", f"/transactionals/{number}")).json()["status"] == status
        await house.call("DELETE", "/suppressions", {"email": ANN})


@pytest.mark.parametrize(
    "email",
    [
        "not-an-email",
        "a@",
        "@b.example",
        "a@b@c.example",  # a1
        "<a@b.example>,c@d.example",
        "a@b.example)c@evil.example",
        "x" * 65 + "@example.com",  # a4
        "a@" + "y" * 64 + ".example",
        "a@" + "example." * 40 + "com",
        "a\r\nb@example.com",  # h1
        "a\u0000@example.com",
        "a@exa\u202emple.com",
        "x" * 100_000,
        5,
        True,
        1.5,
        ["a@example.com"],
        {"email": "a@example.com"},
    ],
    ids=range(18),
)
async def test_a4_w17_what_is_no_address_is_422_in_the_products_words(house: House, email: object) -> None:
    for method in ("POST", "DELETE"):
        answer = await house.call(method, "/suppressions", {"email": email})
        assert (answer.status_code, answer.json()) == (422, {"error": "email is invalid"})
    if isinstance(email, str) and len(email) < 1000:
        answer = await house.http.get(
            "/api/v1/suppressions/check",
            params={"email": email},
            headers={"Authorization": f"Bearer {house.server_key}"},
        )
        assert (answer.status_code, answer.json()) == (422, {"error": "email is invalid"})


@pytest.mark.parametrize("body", [{}, {"email": None}, {"email": ""}, {"address": ANN}])
async def test_a_missing_address_is_named(house: House, body: object) -> None:
    for method in ("POST", "DELETE"):
        answer = await house.call(method, "/suppressions", body)
        assert (answer.status_code, answer.json()) == (422, {"error": "email can't be blank"})
    assert (await house.call("GET", "/suppressions/check")).status_code == 422


@pytest.mark.parametrize(
    ("emails", "said"),
    [
        (None, "emails can't be blank"),
        ([], "emails can't be blank"),
        ("a@example.com", "emails must be a list of addresses"),
        ({"0": "a@example.com"}, "emails must be a list of addresses"),
        ([["a@example.com"]], "emails must be a list of addresses"),
        (["a@example.com", None], "emails must be a list of addresses"),
        (["a@example.com", 5], "emails must be a list of addresses"),
    ],
    ids=range(7),
)
async def test_w17_what_is_no_list_changes_nothing(house: House, emails: object, said: str) -> None:
    for method in ("POST", "DELETE"):
        answer = await house.call(method, "/suppressions/bulk", {"emails": emails})
        assert (answer.status_code, answer.json()) == (422, {"error": said})
    assert (await house.call("GET", "/suppressions")).json()["pagination"]["total"] == 0


async def test_w18_texts_that_are_no_addresses_come_back_cut(house: House) -> None:
    odd = ["y" * 10_000, "\u200b", "   ", "\u202eann@example.com", "🙂@", "a\u0000b@example.com"]
    answer = await house.call("POST", "/suppressions/bulk", {"emails": odd})
    assert answer.json() == {"added": 0, "already_suppressed": 0, "invalid": ["y" * 320, *odd[1:]]}


async def test_w2_ten_thousand_long_addresses_and_not_one_more(house: House) -> None:
    people = [f"{n:05}{'x' * 59}@{'y' * 60}.{'z' * 60}.{'w' * 60}.com" for n in range(10_001)]
    assert len(people[0]) == 251
    answer = await house.call("POST", "/suppressions/bulk", {"emails": people})
    assert answer.status_code == 413  # the test's setting of the largest body is 1 MiB
    short = [f"p{n}@example.com" for n in range(10_001)]
    answer = await house.call("POST", "/suppressions/bulk", {"emails": short})
    assert answer.status_code == 422
    assert answer.json() == {"error": "emails has 10001 addresses; at most 10000 are taken at once"}
    assert (await house.call("GET", "/suppressions")).json()["pagination"]["total"] == 0
    answer = await house.call("POST", "/suppressions/bulk", {"emails": short[1:]})
    assert answer.json() == {"added": 10_000, "already_suppressed": 0, "invalid": []}
    answer = await house.call("DELETE", "/suppressions/bulk", {"emails": short[1:]})
    assert answer.json() == {"removed": 10_000, "not_found": 0}


async def test_w1_bad_json_changes_nothing(house: House) -> None:
    for body in (b"{", b"[]", b'{"email": NaN}', b'{"email": "a@b.example", "email": "c@d.example"}'):
        for method, path in (("POST", "/suppressions"), ("DELETE", "/suppressions/bulk")):
            assert (await house.call(method, path, content=body)).status_code == 400
    tokens = b'{"emails": [' + b",".join([b'"a"'] * 20_000) + b"]}"
    assert (await house.call("POST", "/suppressions/bulk", content=tokens)).status_code == 400


async def test_a5_q15_one_address_in_many_spellings_is_one(house: House) -> None:
    same = ["x@bücher.example", "X@BÜCHER.example", "x@xn--bcher-kva.example", "X@XN--BCHER-KVA.Example"]
    answer = await house.call("POST", "/suppressions/bulk", {"emails": same})
    assert answer.json() == {"added": 1, "already_suppressed": 0, "invalid": []}
    listed = (await house.call("GET", "/suppressions")).json()["suppressions"]
    assert [one["email"] for one in listed] == ["x@xn--bcher-kva.example"]
    plus = (
        await house.call("POST", "/suppressions/bulk", {"emails": ["x+a@b.example", "x@b.example"]})
    ).json()
    assert plus["added"] == 2  # a plus tag is another mailbox to everybody but some receivers
    checked = (await house.call("GET", "/suppressions/check?email=X%2BA@b.example")).json()
    assert checked["suppressed"] is True


@pytest.mark.parametrize("page", ["-1", "0", "null", "x", "1.5", "", "1e9", "999999999999999999999"])
async def test_w14_any_page_is_answered(house: House, page: str) -> None:
    await house.call("POST", "/suppressions", {"email": ANN})
    answer = await house.call("GET", f"/suppressions?page={page}")
    assert answer.status_code == 200
    assert answer.json()["pagination"]["total"] == 1


async def test_w13_other_parameters_are_remarked_on_and_do_nothing(house: House) -> None:
    sent = {
        "email": ANN,
        "id": 77,
        "account_id": 9,
        "server_id": int(house.other_channel),
        "reason": "complaint",
    }
    answer = await house.call("POST", "/suppressions", sent)
    assert answer.status_code == 201
    told = answer.json()
    assert told["id"] == 1
    assert [one["param"] for one in told["warnings"]] == ["id", "account_id", "server_id", "reason"]
    listed = (await house.call("GET", "/suppressions")).json()["suppressions"]
    assert [one["reason"] for one in listed] == ["manual"]


async def test_a_channel_sees_and_changes_its_own_list_only(house: House) -> None:
    await house.call("POST", "/suppressions", {"email": ANN})
    assert (await house.call("GET", "/suppressions", key=house.foreign_key)).json()["suppressions"] == []
    gone = await house.call("DELETE", "/suppressions", {"email": ANN}, key=house.foreign_key)
    assert gone.json()["removed"] is False
    for channel in (house.foreign_channel, 9_999, "x", -1, 2**70):
        for method, path, body in (
            ("POST", "/suppressions", {"email": ANN}),
            ("DELETE", "/suppressions/bulk", {"emails": [ANN]}),
        ):
            answer = await house.call(
                method, path, {**body, "broadcast_channel_id": channel}, key=house.account_key
            )
            assert (answer.status_code, answer.json()) == (404, {"error": "Channel not found"})
        answer = await house.call(
            "GET", f"/suppressions?broadcast_channel_id={channel}", key=house.account_key
        )
        assert answer.status_code == 404
    assert (await house.call("GET", f"/suppressions/check?email={ANN}")).json()["suppressed"] is True


async def test_an_account_key_names_its_channel(house: House) -> None:
    answer = await house.call("POST", "/suppressions", {"email": ANN}, key=house.account_key)
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "broadcast_channel_id is required for an account key"},
    )
    body = {"email": ANN, "broadcast_channel_id": int(house.other_channel)}
    assert (await house.call("POST", "/suppressions", body, key=house.account_key)).status_code == 201
    assert (await house.call("GET", "/suppressions")).json()["suppressions"] == []


async def test_w19_each_call_needs_its_permission(house: House) -> None:
    reader, writer = await house.key("subscribers_read"), await house.key("subscribers_write")
    others = await house.key(*(one for one in Scope if one != "all" and not one.startswith("subscribers")))
    reads = (("GET", "/suppressions", None), ("GET", f"/suppressions/check?email={ANN}", None))
    writes = (
        ("POST", "/suppressions", {"email": ANN}),
        ("DELETE", "/suppressions", {"email": ANN}),
        ("POST", "/suppressions/bulk", {"emails": [ANN]}),
        ("DELETE", "/suppressions/bulk", {"emails": [ANN]}),
    )
    for allowed, refused, calls in ((reader, writer, reads), (writer, reader, writes)):
        for method, path, body in calls:
            assert (await house.call(method, path, body, key=allowed)).status_code in (200, 201)
            for key in (refused, others):
                answer = await house.call(method, path, body, key=key)
                assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


async def test_the_official_client_works_the_list(house: House) -> None:
    async with running_app(house.ctx) as url:
        client = Broadcast(api_token=house.server_key, host=url, sleep=lambda _: None)
        assert (await call(lambda: client.suppressions.add(ANN)))["email"] == ANN
        assert (await call(lambda: client.suppressions.add(ANN)))["id"] == 1
        assert (await call(lambda: client.suppressions.check(ANN)))["scope"] == "channel"
        added = await call(lambda: client.suppressions.bulk_add(["b@example.com", "?"]))
        assert (added["added"], added["already_suppressed"], added["invalid"]) == (1, 0, ["?"])
        listed = await call(lambda: client.suppressions.list(page=1, email="EXAMPLE.com"))
        assert [one["email"] for one in listed["suppressions"]] == ["b@example.com"]
        assert (await call(lambda: client.suppressions.remove(ANN)))["removed"] is True
        gone = await call(lambda: client.suppressions.bulk_remove(["b@example.com", "c@example.com"]))
        assert (gone["removed"], gone["not_found"]) == (1, 1)
        with pytest.raises(ValidationError, match="email is invalid"):
            await call(lambda: client.suppressions.add("not-an-email"))
        _, weak = await keys.create_key(
            house.ctx, ACTOR, Owner(house.account, house.channel), "weak", ["transactionals_write"]
        )
        stranger = Broadcast(api_token=weak.reveal(), host=url, sleep=lambda _: None)
        with pytest.raises(AuthenticationError):
            await call(lambda: stranger.suppressions.list())


async def test_w2_the_largest_list_fits_the_limits_as_they_are_set(house: House) -> None:
    """With the default settings: 10,000 addresses of 251 characters are one request."""
    people = [f"{n:05}{'x' * 59}@{'y' * 60}.{'z' * 60}.{'w' * 60}.com" for n in range(10_000)]
    body = json.dumps({"emails": people}).encode()
    async with running_app(house.ctx, most_body_bytes=35 << 20) as url:
        client = Broadcast(api_token=house.server_key, host=url, sleep=lambda _: None, retry_attempts=1)
        done = await call(lambda: client.suppressions.bulk_add(people))
    assert (done["added"], len(body) > 2_500_000) == (10_000, True)
