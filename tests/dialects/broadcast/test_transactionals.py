"""The transactional calls: whole answers, idempotency, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.actions.messages import show_message
from postroom.core.server import Owner
from postroom.errors import Unavailable
from postroom.storage.interface import Sql, Work
from tests.dialects.broadcast.conftest import GOOD, MAIL, House


async def connect(house: House, **change: object) -> None:
    given = {**GOOD, "use_for_transactionals": True, **change}
    assert (await house.call("POST", "/email_servers", {"email_server": given})).status_code == 201


async def send(house: House, *, status: int = 201, headers: Any = None, **change: object) -> dict[str, Any]:
    given = {name: value for name, value in {**MAIL, **change}.items() if value is not ...}
    answer = await house.call("POST", "/transactionals.json", given, headers=headers)
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_create_answers_the_whole_object(house: House) -> None:
    await connect(house)
    told = await send(house, preheader="Soon", reply_to="Help <help@shop.example>")
    assert told == {
        "id": 1,
        "recipient_email": "ann@example.net",
        "recipient_name": "Ann",
        "subject": "Hello",
        "body": "<p>Hi</p>",
        "preheader": "Soon",
        "reply_to": "help@shop.example",
        "status": "queued",
        "queue_at": told["created_at"],
        "sent_at": None,
        "created_at": told["created_at"],
        "updated_at": told["created_at"],
        "status_url": "http://post.example/api/v1/transactionals/1.json",
    }
    for path in ("/transactionals/1", "/transactionals/1.json"):
        assert (await house.call("GET", path)).json() == told


async def test_the_channels_sender_is_the_from_and_html_is_html(house: House) -> None:
    await connect(house)
    await send(house)
    await send(house, body="a < b, plain")
    owner = Owner(house.account, house.channel)
    rich = await show_message(house.ctx, owner, "1", with_content=True)
    plain = await show_message(house.ctx, owner, "2", with_content=True)
    assert rich.content is not None
    assert plain.content is not None
    assert (rich.content.sender.address, rich.content.sender.name) == ("hello@shop.example", "Shop")
    assert (rich.content.html, rich.content.text) == ("<p>Hi</p>", None)
    assert (plain.content.html, plain.content.text) == (None, "a < b, plain")
    assert (rich.message.purpose, rich.message.stream) == ("transactional", "outbound")


async def test_sent_at_is_null_until_the_250_is_recorded(house: House) -> None:
    await connect(house)
    await send(house)

    def settle(state: str, at: int) -> Any:
        def work() -> Work[None]:
            yield Sql("UPDATE deliveries SET state = :s, settled_at = :at", {"s": state, "at": at})

        return work

    for state, status, sent in (
        ("claimed", "pending", None),
        ("sent", "sent", "2026-09-21T14:00:00Z"),
        ("unverified", "sent", None),
        ("bounced", "failed", None),
    ):
        await house.ctx.store.write(settle(state, 1_790_000_400_000_000 - 1_200_000_000))
        told = (await house.call("GET", "/transactionals/1")).json()
        assert told["status"] == status
        assert (told["sent_at"] is not None) == (sent is not None)


async def test_captured_mail_says_so(house: House) -> None:
    told = await send(house)
    assert [one["code"] for one in told["warnings"]] == ["message_captured"]
    assert told["status"] == "queued"


async def test_no_email_server_for_this_kind_of_mail_is_refused(house: House) -> None:
    await connect(house, use_for_transactionals=False)
    told = await send(house, status=422)
    assert told == {"error": "No email server of this channel is switched on for this kind of mail"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"to": ...}, "To can't be blank"),
        ({"to": "", "subject": " "}, "To can't be blank, Subject can't be blank"),
        ({"subject": ...}, "Subject can't be blank"),
        ({"body": None}, "Body can't be blank"),
        ({"subject": 5}, "Subject must be a string"),
        ({"body": ["x"]}, "Body must be a string"),
        ({"to": {"email": "a@example.net"}}, "To must be a string"),
        ({"template_id": 4}, "Template is not supported by this version"),
        ({"double_opt_in": True}, "Double opt in is not supported by this version"),
        ({"double_opt_in": {"a": 1}}, "Double opt in is not supported by this version"),
        ({"include_unsubscribe_link": "yes"}, "Include unsubscribe link must be true or false"),
    ],
)
async def test_each_refusal_has_its_sentence(house: House, change: dict[str, object], said: str) -> None:
    await connect(house)
    assert await send(house, status=422, **change) == {"error": said}


@pytest.mark.parametrize(
    "change",
    [
        {"to": "nobody"},
        {"to": "a@b@c"},
        {"to": "a@example.net, b@example.net"},
        {"to": "alice@trusted.com)bob@evil.com"},
        {"reply_to": "x"},
        {"subject": "a\r\nBcc: b@example.net"},
        {"subject": "a\u2028b"},
        {"to": "x\r\n <a@example.net>"},
    ],
)
async def test_h1_a1_hostile_addresses_and_headers_are_422(house: House, change: dict[str, object]) -> None:
    await connect(house)
    assert set(await send(house, status=422, **change)) == {"error"}


async def test_unknown_and_later_parameters_are_remarked_on(house: House) -> None:
    await connect(house)
    told = await send(house, colour=1, subscriber={"first_name": "A"})
    assert {one["param"]: one["code"] for one in told["warnings"]} == {
        "colour": "unrecognized_parameter",
        "subscriber": "parameter_ignored",
    }


@pytest.mark.parametrize(("said", "stored"), [({}, None), ({"include_unsubscribe_link": True}, True)])
async def test_an_unsubscribe_link_is_for_those_who_ask(
    house: House, said: dict[str, Any], stored: bool | None
) -> None:
    await connect(house)
    told = await send(house, **said)
    assert "warnings" not in told
    owner = Owner(house.account, house.channel)
    seen = await show_message(house.ctx, owner, str(told["id"]), with_content=True)
    assert seen.content is not None
    assert seen.content.unsubscribe_link is stored


NAMED = {"Idempotency-Key": "order-17"}


async def test_the_same_request_again_is_the_same_message(house: House) -> None:
    await connect(house)
    first = await house.call("POST", "/transactionals.json", MAIL, headers=NAMED)
    again = await house.call("POST", "/transactionals.json", MAIL, headers=NAMED)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await house.call("POST", "/transactionals.json", {**MAIL, "subject": "x"}, headers=NAMED)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json()["error"]
    elsewhere = f"/transactionals.json?broadcast_channel_id={house.channel}"
    new = await house.call("POST", elsewhere, MAIL, headers=NAMED, key=house.account_key)
    assert new.json()["id"] != first.json()["id"]  # names are each key's own


async def test_one_still_running_is_409_and_a_long_name_422(house: House) -> None:
    await connect(house)
    house.ctx.running.add((1, "order-17"))
    answer = await house.call("POST", "/transactionals.json", MAIL, headers=NAMED)
    assert answer.status_code == 409
    house.ctx.running.clear()
    answer = await house.call("POST", "/transactionals.json", MAIL, headers={"Idempotency-Key": "x" * 256})
    assert answer.status_code == 422


@pytest.mark.parametrize("which", ["1", "2", "abc", "0", "99999999999999999999"])
async def test_a_foreign_message_looks_like_none(house: House, which: str) -> None:
    await connect(house)
    await send(house)
    key = house.foreign_key if which == "1" else house.server_key
    answer = await house.call("GET", f"/transactionals/{which}.json", key=key)
    assert (answer.status_code, answer.json()) == (404, {"error": "Transactional not found"})


async def test_w19_permissions(house: House) -> None:
    await connect(house)
    writer, reader = await house.key("transactionals_write"), await house.key("transactionals_read")
    assert (await house.call("POST", "/transactionals", MAIL, key=writer)).status_code == 201
    assert (await house.call("POST", "/transactionals", MAIL, key=reader)).status_code == 401
    assert (await house.call("GET", "/transactionals/1", key=writer)).status_code == 401
    assert (await house.call("GET", "/transactionals/1", key=reader)).status_code == 200


async def test_what_is_accepted_is_a_yes_even_if_it_cannot_be_read_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(house)
    with monkeypatch.context() as broken:

        async def fails(_: object) -> None:
            raise Unavailable("the database is away")

        broken.setattr(house.harness.store, "read", fails)
        answer = await house.call("POST", "/transactionals.json", {**MAIL, "preheader": "Soon"})
    # A 503 would make the client send it again.
    assert answer.status_code == 201
    assert answer.json() == (await house.call("GET", "/transactionals/1")).json()
    assert (await house.call("GET", "/transactionals/2")).status_code == 404


async def test_the_channel_is_part_of_what_an_idempotency_key_names(house: House) -> None:
    await connect(house)

    async def ask(channel: int) -> tuple[int, object]:
        path = f"/transactionals.json?broadcast_channel_id={channel}"
        answer = await house.call("POST", path, MAIL, headers=NAMED, key=house.account_key)
        return answer.status_code, answer.json().get("id")

    assert await ask(house.channel) == (201, 1)
    assert (await ask(house.other_channel))[0] == 422
    assert await ask(house.channel) == (201, 1)
