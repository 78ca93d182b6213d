"""The requests of the product's documentation, as it prints them for curl, with our host and token.

The vendors' own names are answered by the test's resolver with a real SMTP server on loopback that has a
certificate for them, so that testing a connection really connects, secures and logs in.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from postroom.core.connection import Connection
from postroom.transports.dialer import Dialer
from postroom.transports.interface import AuthMethod, Outcome, SmtpTarget, StartTls
from postroom.transports.smtp import SmtpTransport, probe
from tests.dialects.broadcast.conftest import House
from tests.support.certs import Certs
from tests.support.curl import read_curl
from tests.support.scripted_smtp import ScriptedServer

HOST = "https://your-domain.com"
TOKEN = "YOUR_ACCESS_TOKEN"
AUTH = f'-H "Authorization: Bearer {TOKEN}"'
JSON = '-H "Content-Type: application/json"'
SES = {
    "label": "Production AWS SES",
    "vendor": "aws_ses",
    "delivery_method": "smtp",
    "smtp_address": "email-smtp.us-east-1.amazonaws.com",
    "smtp_port": 587,
    "smtp_username": "AKIAIOSFODNN7EXAMPLE",
    "smtp_password": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "smtp_authentication": "plain",
    "emails_per_hour": 1000,
    "use_for_broadcasts": True,
    "use_for_sequences": True,
    "use_for_transactionals": False,
    "aws_region": "us-east-1",
}
POSTMARK = {
    "label": "Postmark Transactional",
    "vendor": "postmark",
    "delivery_method": "api",
    "postmark_api_token": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "emails_per_hour": 500,
    "use_for_broadcasts": False,
    "use_for_sequences": False,
    "use_for_transactionals": True,
}
SENDGRID = {
    "label": "SendGrid Production",
    "vendor": "sendgrid",
    "smtp_address": "smtp.sendgrid.net",
    "smtp_port": 587,
    "smtp_username": "apikey",
    "smtp_password": "SG.xxxxxxxxxxxxxxxxxxxx",
    "smtp_authentication": "plain",
    "emails_per_hour": 5000,
    "use_for_broadcasts": True,
    "use_for_sequences": True,
    "use_for_transactionals": True,
}


def curl(method: str, path: str, data: object = None) -> str:
    """A line as the documentation prints it."""
    body = "" if data is None else f"{JSON} -d '{json.dumps(data)}' "
    return f"curl -X {method} {AUTH} {body}{HOST}/api/v1/email_servers{path}"


async def run(house: House, line: str) -> tuple[int, object]:
    """What curl would do with the line, to our host with our token."""
    asked = read_curl(line.replace(TOKEN, house.server_key).replace(HOST, ""))
    path = asked.url.removeprefix("/api/v1")
    answer = await house.call(asked.method, path, headers=asked.headers, content=asked.content)
    return answer.status_code, answer.json()


@pytest.fixture
async def vendor(house: House) -> AsyncIterator[ScriptedServer]:
    """The vendors' SMTP servers, all in one, on loopback."""
    certs = Certs()
    users = {str(one["smtp_username"]): str(one["smtp_password"]) for one in (SES, SENDGRID)}
    tls = certs.server("smtp.sendgrid.net")
    offered = ("PIPELINING", "AUTH PLAIN LOGIN")
    async with ScriptedServer({}, tls=tls, users=users, extensions=offered) as peer:

        async def resolve(host: str, port: int) -> list[str]:
            assert host == "smtp.sendgrid.net"
            return ["127.0.0.1"]

        class ToLoopback:
            async def probe(self, connection: Connection) -> Outcome:
                assert connection.port == 587
                target = SmtpTarget(
                    connection.host,
                    peer.port,
                    StartTls.OFFERED,
                    AuthMethod(connection.auth),
                    connection.secrets["smtp_username"],
                    connection.secrets["smtp_password"],
                )
                return await probe(
                    SmtpTransport(target, Dialer(resolver=resolve), ssl_context=certs.client())
                )

        object.__setattr__(house.ctx, "prober", ToLoopback())
        yield peer


def shown(given: dict[str, object], **change: object) -> dict[str, object]:
    """What the documentation's answers show of an email server, by its own rules for masks."""
    masked = {
        "smtp_username": "AKIA" + "•" * 12 + "MPLE" if given.get("smtp_username") != "apikey" else "•" * 8,
        "smtp_password": "•" * 8,
        "postmark_api_token": "•" * 8,
    }
    told = {name: masked.get(name, value) for name, value in given.items()}
    return {**told, "active": True, "connection_failed_at": None, **change}


async def test_list_get_create_update_delete(house: House) -> None:
    status, told = await run(house, curl("POST", "", {"email_server": SES}))
    assert status == 201
    assert isinstance(told, dict)
    assert shown(SES).items() <= told.items()
    assert told["id"] == 1
    status, listed = await run(house, curl("GET", ""))
    assert (status, listed) == (200, {"data": [told], "total": 1})
    assert await run(house, curl("GET", "/1")) == (200, told)
    change = {"label": "Updated Server Name", "emails_per_hour": 2000}
    status, changed = await run(house, curl("PATCH", "/1", {"email_server": change}))
    assert status == 200
    assert isinstance(changed, dict)
    assert shown(SES, **change).items() <= changed.items()
    assert await run(house, curl("DELETE", "/1")) == (
        200,
        {"message": "Email server deleted successfully"},
    )
    assert await run(house, curl("GET", "/1")) == (404, {"error": "Email server not found"})


async def test_create_an_api_server(house: House) -> None:
    status, told = await run(house, curl("POST", "", {"email_server": POSTMARK}))
    assert status == 201
    assert isinstance(told, dict)
    assert shown(POSTMARK).items() <= told.items()


async def test_the_complete_set_up_flow(house: House, vendor: ScriptedServer) -> None:
    status, told = await run(house, curl("POST", "", {"email_server": SENDGRID}))
    assert status == 201
    assert isinstance(told, dict)
    number = told["id"]
    assert await run(house, curl("POST", f"/{number}/test_connection")) == (
        200,
        {"success": True, "message": "Connection successful"},
    )
    assert any(line.upper().startswith("STARTTLS") for line in vendor.commands)
    assert any(line.upper().startswith("AUTH PLAIN") for line in vendor.commands)
    status, told = await run(house, curl("GET", f"/{number}"))
    assert isinstance(told, dict)
    assert (told["active"], told["connection_failed_at"]) == (True, None)
    assert shown(SENDGRID).items() <= told.items()


async def test_a_failing_test(house: House, vendor: ScriptedServer) -> None:
    wrong = {**SENDGRID, "smtp_password": "SG.another"}
    await run(house, curl("POST", "", {"email_server": wrong}))
    status, told = await run(house, curl("POST", "/1/test_connection"))
    assert status == 422
    assert isinstance(told, dict)
    assert {"success": False, "message": "Connection failed"}.items() <= told.items()
    status, shown_now = await run(house, curl("GET", "/1"))
    assert isinstance(shown_now, dict)
    assert shown_now["active"] is False
    assert shown_now["connection_failed_at"] is not None


async def test_error_responses(house: House) -> None:
    line = curl("GET", "/1").replace(TOKEN, "WRONG")
    assert await run(house, line) == (401, {"error": "Unauthorized"})
    nothing = {"label": "", "emails_per_hour": 15, **{k: v for k, v in SES.items() if k.startswith("smtp")}}
    assert await run(house, curl("POST", "", {"email_server": nothing})) == (
        422,
        {
            "error": "Label can't be blank, At least one use case"
            " (broadcasts, sequences, or transactionals) must be selected"
        },
    )
