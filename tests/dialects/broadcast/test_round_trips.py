"""Email servers fetched, changed by several at once, copied, and sent back as they were shown."""

from __future__ import annotations

import asyncio
from typing import Any

from postroom.actions.connections import load_connection
from postroom.core.connection import Connection
from postroom.ids import ConnectionId
from tests.dialects.broadcast.conftest import GOOD, House
from tests.support.context import PASSED, REFUSED_LOGIN


async def make(house: House, **change: object) -> dict[str, Any]:
    answer = await house.call("POST", "/email_servers", {"email_server": {**GOOD, **change}})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def patch(house: House, **change: object) -> dict[str, Any]:
    answer = await house.call("PATCH", "/email_servers/1", {"email_server": change})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def stored(house: House, number: int = 1) -> Connection:
    return await load_connection(house.ctx, house.account, ConnectionId(number))


async def failed(house: House) -> dict[str, Any]:
    """An email server whose test failed, as it is shown."""
    await make(house)
    house.harness.prober.outcome = REFUSED_LOGIN
    assert (await house.call("POST", "/email_servers/1/test_connection")).status_code == 422
    shown: dict[str, Any] = (await house.call("GET", "/email_servers/1")).json()
    assert shown["active"] is False
    return shown


async def test_a_failed_one_saved_as_it_was_fetched_is_not_switched_off(house: House) -> None:
    shown = await failed(house)
    told = await patch(house, **{**shown, "label": "New"})
    assert "active" in [one["param"] for one in told["warnings"]]
    one = await stored(house)
    assert (one.label, one.enabled, one.active) == ("New", True, False)
    house.harness.prober.outcome = PASSED
    await house.call("POST", "/email_servers/1/test_connection")
    assert (await stored(house)).active


async def test_a_failed_one_can_be_switched_off(house: House) -> None:
    await failed(house)
    assert "warnings" not in await patch(house, active=False)
    assert (await stored(house)).enabled is False


async def test_switching_a_failed_one_on_says_that_it_stays_failed(house: House) -> None:
    await failed(house)
    told = await patch(house, active=True)
    assert told["active"] is False
    assert [one["code"] for one in told["warnings"]] == ["parameter_overridden"]


async def test_one_sent_back_with_nothing_new_is_not_changed(house: House) -> None:
    made = await make(house)
    version = (await stored(house)).version
    masked = {name: made[name] for name in ("smtp_username", "smtp_password", "id", "created_at")}
    await patch(house, **masked)
    await patch(house)
    assert (await stored(house)).version == version  # a new version cuts the sessions that are open


async def test_w16_two_changes_at_once_lose_neither(house: House) -> None:
    await make(house)
    for hour in range(20, 25):
        await asyncio.gather(patch(house, label=f"L{hour}"), patch(house, emails_per_hour=hour))
        one = await stored(house)
        assert (one.label, one.hourly_cap) == (f"L{hour}", hour)


async def test_a_copy_has_all_settings_and_secrets_and_starts_afresh(house: House) -> None:
    shown = await failed(house)
    await patch(house, active=False, smtp_enable_starttls_auto=False, custom_unsubscribe_link="{{{ x }}}")
    wanted = {"target_channel_id": str(house.other_channel), "broadcast_channel_id": house.channel}
    answer = await house.call("POST", "/email_servers/1/copy_to_channel", wanted, key=house.account_key)
    assert answer.status_code == 201, answer.text
    copy = answer.json()
    changed = {"id", "active", "connection_failed_at", "created_at", "updated_at"}
    changed |= {"smtp_enable_starttls_auto", "custom_unsubscribe_link"}
    assert {name: copy[name] for name in copy.keys() - changed} == {
        name: shown[name] for name in shown.keys() - changed
    }
    assert (copy["active"], copy["connection_failed_at"]) == (True, None)
    assert (copy["smtp_enable_starttls_auto"], copy["custom_unsubscribe_link"]) == (False, "{{{ x }}}")
    original, twin = await stored(house), await stored(house, copy["id"])
    assert twin.secrets == original.secrets
    assert twin.server_id == house.other_channel


async def test_a_copy_goes_to_channels_of_the_account_only(house: House) -> None:
    await make(house)
    for target, status, said in (
        (house.foreign_channel, 404, "Channel not found"),
        ("abc", 404, "Channel not found"),
        (None, 422, "Target channel can't be blank"),
    ):
        wanted = {"target_channel_id": target, "broadcast_channel_id": house.channel}
        answer = await house.call("POST", "/email_servers/1/copy_to_channel", wanted, key=house.account_key)
        assert (answer.status_code, answer.json()) == (status, {"error": said})


async def test_a_test_of_settings_that_changed_meanwhile_says_so(house: House) -> None:
    await make(house)

    async def meanwhile() -> None:
        await patch(house, label="Changed")

    house.harness.prober.meanwhile = meanwhile  # type: ignore[method-assign]  # the fake is made for that
    answer = await house.call("POST", "/email_servers/1/test_connection")
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert [one["code"] for one in answer.json()["warnings"]] == ["result_not_recorded"]
