"""Every call of every API and the audit trail: a change writes its line, nothing else does.

The cases name every call that can change something; a new call, or a new API, fails here until it has one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from postroom import dialects
from postroom.dialects.postmark.calls import Op, Token
from postroom.http.calls import Operation
from postroom.storage.interface import Sql, Work
from tests.dialects.b2core.conftest import BASE as B2CORE
from tests.dialects.b2core.conftest import GOOD as PROVIDER
from tests.dialects.broadcast.conftest import GOOD as EMAIL_SERVER
from tests.dialects.broadcast.conftest import MAIL
from tests.dialects.house import House, build_house, filled
from tests.dialects.postmark.conftest import ACCOUNT_TOKEN, SERVER_TOKEN
from tests.support.context import REFUSED_LOGIN
from tests.support.trail import CANARIES, Trail, lines, secrets_in

CLIENT = "127.0.0.1"  # as the transport of these tests says


def operations() -> dict[tuple[str, str, str], Operation[Any]]:
    """By API, method and path."""
    found: dict[tuple[str, str, str], Operation[Any]] = {}
    for module in pkgutil.iter_modules(dialects.__path__):
        table = importlib.import_module(f"postroom.dialects.{module.name}.operations").OPERATIONS
        found |= {(module.name, one.method, one.path): one for one in table}
    return found


OPERATIONS = operations()
BASES = {"broadcast": "/api/v1", "b2core": B2CORE.removesuffix("/providers"), "postmark": ""}


@dataclass(frozen=True)
class Step:
    """One request: its body, the status and the actions it must end in."""

    body: object
    status: int
    writes: Sequence[str] = ()
    refused: bool = False  # the peer refuses the login when it is tried
    account_key: bool = False


SECRETS = {"smtp_username": CANARIES["smtp_username"], "smtp_password": CANARIES["smtp_password"]}
SERVER = {"email_server": {**EMAIL_SERVER, "use_for_transactionals": True, **SECRETS}}
ANN = {"email": "ann@example.net"}
NEWS = {"Name": "News", "MessageStreamType": "Broadcasts"}
PEOPLE = {"Suppressions": [{"EmailAddress": "old@example.net"}, {"EmailAddress": "x"}]}
HOOK = f"https://u:{CANARIES['smtp_password']}@hooks.example/"
MANY = {"emails": ["ann@example.net", "bob@example.net"]}
LATER = {"smtp_password": CANARIES["postmark_api_token"], "label": "New"}

MADE = {"Name": "Made", "Alias": "made", "Subject": "Hello {{name}}", "TextBody": "Hi {{name}}"}
LETTER = {"From": "Shop <hello@shop.example>", "To": "ann@example.net", "TextBody": "Hello"}
LETTER_TO_MANY: dict[str, object] = {**LETTER, "Messages": [{"To": "ann@example.net"}]}
FILLED = {"From": LETTER["From"], "To": "ann@example.net", "TemplateAlias": "made", "TemplateModel": {}}

CASES: Mapping[tuple[str, str, str], Sequence[Step]] = {
    ("broadcast", "POST", "/email_servers"): [
        Step(SERVER, 201, ["connection.create"]),
        Step({"email_server": {}}, 400),
        Step({"email_server": {**SECRETS, "label": ""}}, 422),
    ],
    ("broadcast", "PATCH", "/email_servers/{id}"): [
        Step({"email_server": LATER}, 200, ["connection.update"]),
        Step({"email_server": LATER}, 200),
        Step({"email_server": {}}, 200),
        Step({"email_server": {"smtp_password": "••••••••", "colour": "red"}}, 200),
        Step({"email_server": {"smtp_port": 0}}, 422),
    ],
    ("broadcast", "DELETE", "/email_servers/{id}"): [
        Step(None, 200, ["connection.delete"]),
        Step(None, 404),
    ],
    ("broadcast", "POST", "/email_servers/{id}/test_connection"): [
        Step(None, 200),
        Step(None, 422, ["connection.test"], refused=True),
        Step(None, 200, ["connection.test"]),
    ],
    ("broadcast", "POST", "/email_servers/{id}/copy_to_channel"): [
        Step(
            {"target_channel_id": 2, "broadcast_channel_id": 1},
            201,
            ["connection.create", "capture.end"],
            account_key=True,
        ),
        Step({"target_channel_id": 3, "broadcast_channel_id": 1}, 404, account_key=True),
    ],
    ("broadcast", "POST", "/transactionals"): [Step(MAIL, 201)],  # a message has its own history
    ("broadcast", "POST", "/suppressions"): [Step(ANN, 201, ["suppression.add"]), Step(ANN, 200)],
    ("broadcast", "DELETE", "/suppressions"): [
        Step(ANN, 200),
        Step({"email": "old@example.net"}, 200, ["suppression.remove"]),
        Step({"email": "old@example.net"}, 200),
    ],
    ("broadcast", "POST", "/suppressions/bulk"): [Step(MANY, 200, ["suppression.add"]), Step(MANY, 200)],
    ("broadcast", "DELETE", "/suppressions/bulk"): [
        Step({"emails": ["old@example.net", *MANY["emails"]]}, 200, ["suppression.remove"]),
        Step(MANY, 200),
    ],
    ("b2core", "POST", "/providers"): [
        Step({**PROVIDER, "password": CANARIES["smtp_password"]}, 201, ["connection.create"]),
        Step({}, 400),
    ],
    ("b2core", "PATCH", "/providers/{id}"): [
        Step({"caption": "New", "password": CANARIES["smtp_password"]}, 200, ["connection.update"]),
        Step({"caption": "New", "password": CANARIES["smtp_password"]}, 200),
        Step({}, 200),
        Step({"port": 0}, 400),
    ],
    # A message has its own history.
    ("postmark", "POST", "/email"): [Step(LETTER, 200), Step({}, 422)],
    ("postmark", "POST", "/email/batch"): [Step([LETTER, LETTER], 200), Step([{}], 200)],
    ("postmark", "POST", "/email/bulk"): [
        Step(LETTER_TO_MANY, 200),
        Step({}, 422),
    ],
    ("postmark", "POST", "/email/withtemplate"): [Step(FILLED, 200), Step({}, 422)],
    ("postmark", "POST", "/email/batchwithtemplates"): [
        Step({"Messages": [FILLED, {}]}, 200),
        Step({}, 422),
    ],
    ("postmark", "POST", "/servers"): [
        Step({"Name": "New"}, 200, ["server.create", "key.create"]),
        Step({"Name": "New"}, 422),
        Step({}, 422),
    ],
    **{
        ("postmark", "PUT", path): [
            Step({"Color": "red", "BounceHookUrl": HOOK}, 200, ["server.update"]),
            Step({"Color": "red", "BounceHookUrl": HOOK}, 200),
            Step({}, 422),
        ]
        for path in ("/servers/{id}", "/server")
    },
    ("postmark", "DELETE", "/servers/{id}"): [Step(None, 200, ["server.delete"]), Step(None, 422)],
    ("postmark", "POST", "/message-streams"): [
        Step(NEWS | {"ID": "news"}, 200, ["stream.create"]),
        Step(NEWS | {"ID": "news"}, 422),
    ],
    ("postmark", "PATCH", "/message-streams/{stream}"): [
        Step({"Name": "New"}, 200, ["stream.update"]),
        Step({"Name": "New"}, 200),
        Step({"Name": " "}, 422),
    ],
    ("postmark", "POST", "/message-streams/{stream}/archive"): [
        Step(None, 200, ["stream.archive"]),
        Step(None, 200),
    ],
    ("postmark", "POST", "/message-streams/{stream}/unarchive"): [Step(None, 200)],
    ("postmark", "POST", "/message-streams/{stream}/suppressions"): [
        Step(PEOPLE, 200, ["suppression.add"]),
        Step(PEOPLE, 200),
        Step({}, 422),
    ],
    ("postmark", "POST", "/message-streams/{stream}/suppressions/delete"): [
        Step(PEOPLE, 200, ["suppression.remove"]),
        Step(PEOPLE, 200),
        Step({}, 422),
    ],
    ("postmark", "POST", "/templates"): [
        Step(MADE | {"Alias": "other"}, 200, ["template.create"]),
        Step(MADE | {"Alias": "other"}, 422),
    ],
    ("postmark", "POST", "/templates/validate"): [Step(MADE, 200), Step({}, 422)],
    ("postmark", "PUT", "/templates/push"): [
        Step({"SourceServerID": 1, "DestinationServerID": 2}, 200),
        Step(
            {"SourceServerID": 1, "DestinationServerID": 2, "PerformChanges": True}, 200, ["template.create"]
        ),
        Step({"SourceServerID": 1, "DestinationServerID": 2, "PerformChanges": True}, 200),
        Step({}, 422),
    ],
    ("postmark", "PUT", "/templates/{template}"): [
        Step({"Name": "New"}, 200, ["template.update"]),
        Step({"Name": "New"}, 200),
        Step({}, 422),
    ],
    ("postmark", "DELETE", "/templates/{template}"): [Step(None, 200, ["template.delete"]), Step(None, 422)],
    ("postmark", "PUT", "/bounces/{id}/activate"): [
        Step(None, 200, ["suppression.remove"]),
        Step(None, 200),
    ],
    ("postmark", "POST", "/triggers/inboundrules"): [
        Step({"Rule": "spam@example.net"}, 200, ["inbound_rule.create"]),
        Step({"Rule": "spam@example.net"}, 422),
        Step({}, 422),
    ],
    ("postmark", "DELETE", "/triggers/inboundrules/{id}"): [
        Step(None, 200, ["inbound_rule.delete"]),
        Step(None, 422),
    ],
    ("b2core", "DELETE", "/providers/{id}"): [Step(None, 204, ["connection.delete"]), Step(None, 404)],
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """With an email server, mail and a suppressed address, and its keys used before."""
    async with build_house(tmp_path, "") as built:
        for path, body in (
            ("/email_servers", SERVER),
            ("/transactionals", MAIL),
            ("/suppressions", {"email": "old@example.net"}),
        ):
            assert (await built.call("POST", BASES["broadcast"] + path, body)).status_code == 201
        await built.call(
            "POST", B2CORE, {**PROVIDER, "caption": "Other"}
        )  # one may be switched off, not the last
        made = await built.call("POST", "/templates", MADE, headers={SERVER_TOKEN: built.server_key})
        assert made.status_code == 200
        for path, body in (
            ("/email", LETTER | {"To": "hardbounce@bounce-testing.postmarkapp.com"}),
            ("/triggers/inboundrules", {"Rule": "bad.example"}),
            ("/email/bulk", LETTER_TO_MANY),
        ):
            made = await built.call("POST", path, body, headers={SERVER_TOKEN: built.server_key})
            assert made.status_code == 200, made.text
        await built.call("GET", BASES["broadcast"] + "/whoami", key=built.account_key)
        await built.ctx.keys.close()  # the first uses are written beside the requests
        yield built


def of_account(name: tuple[str, str, str]) -> bool:
    """Whether Postmark's API wants the account's token there."""
    operation = OPERATIONS[name]
    return isinstance(operation, Op) and operation.token is Token.ACCOUNT


def tokens(house: House, name: tuple[str, str, str]) -> Mapping[str, str]:
    """What Postmark's API wants instead of a Bearer key."""
    if name[0] != "postmark":
        return {}
    return {ACCOUNT_TOKEN: house.account_key} if of_account(name) else {SERVER_TOKEN: house.server_key}


async def public_id(house: House, path: str) -> str:
    """Of the house's first message or bulk, where the path is about one; else nothing."""
    table = {"messages": "messages", "email": "bulks"}.get(path.split("/")[1])
    if table is None:
        return ""

    def work() -> Work[str]:
        rows = yield Sql(f"SELECT public_id FROM {table} ORDER BY created_at LIMIT 1")
        found: str = rows[0][0]
        return found

    return await house.ctx.store.read(work)


def test_every_call_that_can_change_something_has_a_case() -> None:
    assert {name[0] for name in OPERATIONS} == set(BASES)
    assert {name for name in OPERATIONS if name[1] != "GET"} == set(CASES)


@pytest.mark.parametrize("name", CASES, ids=" ".join)
async def test_a_change_writes_its_line_and_no_change_writes_none(
    house: House, name: tuple[str, str, str]
) -> None:
    dialect, method, path = name
    path = BASES[dialect] + filled(path, 1, "broadcast")
    works = house.harness.prober.outcome
    trail = Trail(house.ctx)
    await trail.new()
    for step in CASES[name]:
        house.harness.clock.advance(1)
        house.harness.prober.outcome = REFUSED_LOGIN if step.refused else works
        account_key = step.account_key or of_account(name)
        key = house.account_key if account_key else house.server_key
        answer = await house.call(method, path, step.body, key=key, headers=tokens(house, name))
        assert answer.status_code == step.status, answer.text
        written = await trail.new()
        assert [one.action for one in written] == list(step.writes), step.body
        for one in written:
            assert one.actor == ("key 2" if account_key else "key 1")
            assert (one.source, one.account_id) == (CLIENT, house.account)
    assert await secrets_in(house.ctx, house.server_key, house.account_key) == []


@pytest.mark.parametrize("name", [one for one in OPERATIONS if one[1] == "GET"], ids=" ".join)
async def test_a_get_writes_nothing(house: House, name: tuple[str, str, str]) -> None:
    """Nothing but that the key is used for the first time, which the house has behind it."""
    before = await lines(house.ctx)
    number = await public_id(house, name[2]) or "1"
    path = BASES[name[0]] + filled(name[2], number, "broadcast")
    query = "?email=ann@example.net&count=10&offset=0"
    answer = await house.call("GET", path + query, headers=tokens(house, name))
    assert answer.status_code < 300, answer.text
    assert await lines(house.ctx) == before


async def test_a_keys_first_use_is_told_once(house: House) -> None:
    key = await house.key("transactionals_read")
    trail = Trail(house.ctx)
    await trail.new()
    for _ in range(2):
        await house.call("GET", BASES["broadcast"] + "/whoami", key=key)
        house.harness.clock.advance(120)
    (line,) = await trail.new()
    assert (line.actor, line.source, line.action, line.target) == ("key 4", CLIENT, "key.first_use", "key 4")
    assert await secrets_in(house.ctx, key) == []
