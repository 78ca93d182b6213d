"""What the operations do beyond their actions: finding what is left unsaid, bootstrap, health."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from postroom.actions.keys import authenticate
from postroom.cli.checks import Level, ways_out
from postroom.control.desk import Desk
from postroom.control.operations import TABLE, run
from postroom.errors import Denied, Invalid, NotFound, Unauthenticated
from tests.support.context import REFUSED_LOGIN, Harness


async def ask(desk: Desk, name: str, /, **args: object) -> Any:
    return await run(desk, name, args)


async def test_bootstrap_makes_one_of_each_and_keys_that_work(desk: Desk, harness: Harness) -> None:
    made = await ask(desk, "bootstrap")
    assert list(made) == ["account_id", "server_id", "account_key", "server_key"]
    account_key = await authenticate(harness.ctx, made["account_key"])
    server_key = await authenticate(harness.ctx, made["server_key"])
    assert (account_key.account_id, account_key.server_id) == (made["account_id"], None)
    assert server_key.server_id == made["server_id"]
    server = await ask(desk, "server.show")
    assert server["default_sender"] == "postroom@mail.example.org"
    assert {one["stream"] for one in server["streams"]} == {"outbound", "inbound", "broadcast"}


async def test_bootstrap_again_reuses_and_keeps_older_keys(desk: Desk, harness: Harness) -> None:
    first = await ask(desk, "bootstrap")
    second = await ask(desk, "bootstrap")
    assert (second["account_id"], second["server_id"]) == (first["account_id"], first["server_id"])
    assert len({first["account_key"], second["account_key"]}) == 2
    for made in (first, second):
        await authenticate(harness.ctx, made["server_key"])
    assert len((await ask(desk, "key.list"))["data"]) == 4


async def test_two_bootstraps_at_once_make_one_account(desk: Desk) -> None:
    made = await asyncio.gather(*(ask(desk, "bootstrap") for _ in range(3)))
    assert len({(one["account_id"], one["server_id"]) for one in made}) == 1
    assert len((await ask(desk, "account.list"))["data"]) == 1


async def test_an_explicit_sender_replaces_the_default_and_is_trusted(desk: Desk) -> None:
    await ask(desk, "bootstrap")
    await ask(desk, "bootstrap", sender="Shop <shop@example.com>")
    assert (await ask(desk, "server.show"))["default_sender"] == "Shop <shop@example.com>"
    await ask(desk, "bootstrap")
    assert (await ask(desk, "server.show"))["default_sender"] == "Shop <shop@example.com>"
    accepted = await ask(desk, "message.send", to=["a@example.net"], text="hello")
    assert accepted["deliveries"][0]["state"] == "captured"


async def test_a_bad_sender_makes_nothing(desk: Desk) -> None:
    with pytest.raises(Invalid, match="sender"):
        await ask(desk, "bootstrap", sender="not an address")
    assert (await ask(desk, "account.list"))["data"] == []


@pytest.mark.parametrize("name", ["localhost", "", "bad_host-.example", "x" * 70 + ".example"])
async def test_a_host_without_a_usable_full_name_sends_as_localhost(desk: Desk, name: str) -> None:
    desk.full_host_name = lambda: name
    await ask(desk, "bootstrap")
    assert (await ask(desk, "server.show"))["default_sender"] == "postroom@localhost.localdomain"


async def test_what_is_left_unsaid_is_the_default_or_the_only_one(desk: Desk) -> None:
    with pytest.raises(NotFound, match="account"):
        await ask(desk, "server.list")
    first = await ask(desk, "account.create", name="Ada")
    assert (await ask(desk, "account.show"))["name"] == "Ada"
    await ask(desk, "account.create", name="Grace")
    with pytest.raises(Invalid, match="must be given"):
        await ask(desk, "server.list")
    assert (await ask(desk, "server.list", account=first["account_id"]))["total"] == 0
    await ask(desk, "bootstrap")
    assert (await ask(desk, "account.show"))["name"] == "default"


async def test_a_message_needs_to_know_its_server(desk: Desk) -> None:
    await ask(desk, "account.create", name="Ada")
    with pytest.raises(NotFound, match="server"):
        await ask(desk, "message.send", to=["a@example.net"], text="x")
    for name in ("one", "two"):
        await ask(desk, "server.create", name=name, default_sender="shop@example.com")
    with pytest.raises(Invalid, match="must be given"):
        await ask(desk, "message.send", to=["a@example.net"], text="x")


async def test_a_key_belongs_to_its_server_or_to_the_account(desk: Desk, harness: Harness) -> None:
    made = await ask(desk, "bootstrap")
    of_account = await ask(desk, "key.create", label="a")
    of_server = await ask(
        desk, "key.create", label="s", server=made["server_id"], scopes=["transactionals_write"]
    )
    assert of_account["server_id"] is None
    assert of_server["server_id"] == made["server_id"]
    key = await authenticate(harness.ctx, of_server["key"])
    assert key.scopes == {"transactionals_write"}
    await ask(desk, "key.revoke", key_id=of_server["key_id"])
    with pytest.raises(Unauthenticated):
        await authenticate(harness.ctx, of_server["key"])


async def test_trust_reaches_as_far_as_it_says(desk: Desk) -> None:
    made = await ask(desk, "bootstrap")
    with pytest.raises(Denied):
        await ask(desk, "message.send", to=["a@example.net"], text="x", sender="me@example.com")
    trusted = await ask(desk, "identity.trust", value="Example.com", server=made["server_id"])
    assert (trusted["kind"], trusted["value"], trusted["server_id"]) == ("domain", "example.com", 1)
    await ask(desk, "message.send", to=["a@example.net"], text="x", sender="me@example.com")
    everybody = await ask(desk, "identity.trust", value="all@example.org")
    assert everybody["account_id"] == 0
    listed = {one["value"] for one in (await ask(desk, "identity.list"))["data"]}
    assert {"example.com", "all@example.org"} <= listed
    await ask(desk, "identity.forget", identity_id=everybody["identity_id"])
    await ask(desk, "identity.forget", identity_id=trusted["identity_id"])
    with pytest.raises(Denied):
        await ask(desk, "message.send", to=["a@example.net"], text="x", sender="me@example.com")
    with pytest.raises(NotFound, match="identity"):
        await ask(desk, "identity.forget", identity_id=trusted["identity_id"])


async def test_trust_works_before_there_is_an_account(desk: Desk) -> None:
    await ask(desk, "identity.trust", value="example.com")
    assert [one["value"] for one in (await ask(desk, "identity.list"))["data"]] == ["example.com"]


SMTP = {"label": "out", "host": "mail.example.com", "port": 587, "for_transactional": True, "auth": "plain"}
LOGIN = {"smtp_username": "u", "smtp_password": "hunter2"}


async def test_a_connections_secrets_go_in_and_never_out(desk: Desk) -> None:
    await ask(desk, "bootstrap")
    made = await ask(desk, "connection.create", fields=SMTP, secrets=LOGIN, options={"aws_region": "eu-1"})
    number = made["connection_id"]
    shown = await ask(desk, "connection.show", connection=number)
    changed = await ask(desk, "connection.update", connection=number, fields={"hourly_cap": 20})
    listed = await ask(desk, "connection.list")
    assert "hunter2" not in repr((made, shown, changed, listed))
    assert shown["secrets"] == ["smtp_password", "smtp_username"]
    assert changed["hourly_cap"] == 20
    assert listed["total"] == 1
    await ask(desk, "connection.delete", connection=number)
    with pytest.raises(NotFound):
        await ask(desk, "connection.show", connection=number)


async def test_an_unknown_setting_of_a_connection_is_named(desk: Desk) -> None:
    await ask(desk, "bootstrap")
    with pytest.raises(Invalid, match="colour is not a setting"):
        await ask(desk, "connection.create", fields={**SMTP, "colour": "red"})


async def test_a_connection_test_tells_what_the_peer_said(desk: Desk, harness: Harness) -> None:
    await ask(desk, "bootstrap")
    number = (await ask(desk, "connection.create", fields=SMTP, secrets=LOGIN))["connection_id"]
    assert (await ask(desk, "connection.test", connection=number))["passed"] is True
    harness.prober.outcome = REFUSED_LOGIN
    failed = await ask(desk, "connection.test", connection=number)
    assert (failed["passed"], failed["phase"], failed["code"]) == (False, "auth", 535)
    health = await ask(desk, "health")
    assert [one["connection_id"] for one in health["failed_connections"]] == [number]


async def test_a_message_with_everything_is_kept_as_it_was_given(desk: Desk) -> None:
    await ask(desk, "bootstrap", sender="shop@example.com")
    accepted = await ask(
        desk,
        "message.send",
        to=["Ann <a@example.net>"],
        cc=["c@example.net"],
        bcc=["b@example.net"],
        subject="Hi",
        text="plain",
        html="<p>rich</p>",
        headers=[["X-One", "1"]],
        attachments=[
            {"name": "a.txt", "content_type": "text/plain", "data": base64.b64encode(b"abc").decode()}
        ],
    )
    shown = await ask(desk, "message.show", message=accepted["public_id"])
    assert [(one["recipient"], one["kind"]) for one in shown["deliveries"]] == [
        ("a@example.net", "to"),
        ("c@example.net", "cc"),
        ("b@example.net", "bcc"),
    ]
    content = shown["content"]
    assert content["to"] == ["Ann <a@example.net>"]
    assert content["attachments"] == [{"name": "a.txt", "content_type": "text/plain", "size_bytes": 3}]
    assert content["headers"] == [["X-One", "1"]]
    assert [one["message_id"] for one in (await ask(desk, "message.list"))["data"]] == [shown["message_id"]]
    assert await ask(desk, "explain", message="1") == {"owner": [1, None], "message": "1"}


async def test_captured_mail_leaves_by_release_and_waiting_mail_by_cancel(
    desk: Desk, harness: Harness
) -> None:
    await ask(desk, "bootstrap")
    number = (await ask(desk, "message.send", to=["a@example.net"], text="x"))["message_id"]
    assert await ask(desk, "message.release", message=str(number)) == {"released": 1}
    assert len(harness.hearer.woken) == 1
    done = await ask(desk, "message.cancel", message=str(number))
    assert (len(done["cancelled"]), done["past_dot"]) == (1, [])


@pytest.mark.parametrize("data", ["not base64!", "YQ"])
async def test_an_attachment_must_be_base64(desk: Desk, data: str) -> None:
    await ask(desk, "bootstrap")
    attachment = {"name": "a", "content_type": "text/plain", "data": data}
    with pytest.raises(Invalid, match="base64"):
        await ask(desk, "message.send", to=["a@example.net"], text="x", attachments=[attachment])


async def test_health_names_servers_whose_mail_has_no_way_out(desk: Desk) -> None:
    await ask(desk, "bootstrap", sender="shop@example.com")

    async def told() -> list[tuple[str, str]]:
        health = await ask(desk, "health")
        return [(one.name, one.text) for one in ways_out(health["ways_out"]) if one.level is Level.WARNING]

    assert await told() == [("server 1", "has no connection, so nothing is sent; see `connection create`")]
    await ask(desk, "server.create", name="box", sandbox=True)
    number = (await ask(desk, "connection.create", fields=SMTP, secrets=LOGIN))["connection_id"]
    assert await told() == []
    await ask(desk, "message.send", to=["a@example.net"], text="hello")
    assert await told() == []
    await ask(desk, "connection.update", connection=number, fields={"enabled": False})
    assert await told() == [
        (
            "server 1",
            "transactional mail waits and no connection that may carry it is on; see `connection list`",
        )
    ]
    change = {"enabled": True, "for_transactional": False, "for_sequence": True}
    await ask(desk, "connection.update", connection=number, fields=change)
    assert [name for name, _ in await told()] == ["server 1"]
    await ask(desk, "message.cancel", message="1")
    assert await told() == []


async def test_health_names_senders_nobody_vouches_for(desk: Desk) -> None:
    await ask(desk, "bootstrap")
    await ask(desk, "server.create", name="two", default_sender="Two <two@example.com>")
    await ask(desk, "server.create", name="three")
    known = (await ask(desk, "identity.list", server=2))["data"]
    (own,) = (one for one in known if one["value"] == "two@example.com")
    await ask(desk, "identity.forget", identity_id=own["identity_id"])
    senders = {one["name"]: one["proven"] for one in (await ask(desk, "health"))["default_senders"]}
    assert senders == {"default": True, "two": False, "three": False}


async def test_a_server_is_changed_and_deleted(desk: Desk) -> None:
    await ask(desk, "bootstrap")
    changed = await ask(desk, "server.update", server=1, name="shop", default_sender="", sandbox=True)
    assert (changed["name"], changed["default_sender"], changed["sandbox"]) == ("shop", None, True)
    kept = await ask(desk, "server.update", server=1)
    assert kept["sandbox"] is True
    assert await ask(desk, "server.delete", server=1) == {"server_id": 1, "cancelled": 0, "past_dot": []}
    with pytest.raises(NotFound):
        await ask(desk, "server.show", server=1)


async def test_a_foreign_number_is_not_found(desk: Desk) -> None:
    await ask(desk, "bootstrap")
    other = await ask(desk, "account.create", name="other")
    for name, args in (
        ("server.show", {"server": 1}),
        ("key.revoke", {"key_id": 1}),
        ("connection.show", {"connection": 1}),
        ("message.show", {"message": "1"}),
    ):
        with pytest.raises(NotFound):
            await ask(desk, name, account=other["account_id"], **args)


def test_every_operation_says_what_it_does() -> None:
    assert [name for name, one in TABLE.items() if not one.run.__doc__] == []
