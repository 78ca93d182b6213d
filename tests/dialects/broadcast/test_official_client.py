"""The official Python client, unmodified, against the real server on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from broadcast_python import (
    AuthenticationError,
    AuthorizationError,
    Broadcast,
    NotFoundError,
    ValidationError,
)

from postroom.actions.context import Context
from postroom.core.connection import SECRET_FIELDS, Connection
from postroom.transports.dialer import Dialer
from postroom.transports.interface import AuthMethod, Outcome, SmtpTarget, StartTls, Timeouts
from postroom.transports.smtp import SmtpTransport, probe
from tests.dialects.broadcast.conftest import House
from tests.support.certs import Certs
from tests.support.http import running_app
from tests.support.scripted_smtp import ScriptedServer
from tests.support.sink import Sink, SinkOptions

T = TypeVar("T")


async def call(work: Callable[[], T]) -> T:
    """The client is synchronous."""
    return await asyncio.to_thread(work)


class RealProber:
    """Connects for real, as `serve` does, trusting the tests' own authority."""

    def __init__(self, certs: Certs | None = None) -> None:
        self._certs = certs

    async def probe(self, connection: Connection) -> Outcome:
        target = SmtpTarget(
            connection.host,
            connection.port,
            StartTls.NEVER if connection.security.value == "never" else StartTls.OFFERED,
            AuthMethod(connection.auth),
            connection.secrets.get("smtp_username", ""),
            connection.secrets.get("smtp_password", ""),
            timeouts=Timeouts(2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.5),
        )
        context = self._certs.client() if self._certs else None
        return await probe(SmtpTransport(target, Dialer(), ssl_context=context))


@pytest.fixture
async def url(house: House) -> AsyncIterator[str]:
    object.__setattr__(house.ctx, "prober", RealProber())
    async with running_app(house.ctx) as found:
        yield found


def client(url: str, key: str, **more: Any) -> Broadcast:
    return Broadcast(api_token=key, host=url, sleep=lambda _: None, warnings_mode="ignore", **more)


def server(port: int, **change: object) -> dict[str, Any]:
    return {
        "label": "SES",
        "smtp_address": "127.0.0.1",
        "smtp_port": port,
        "smtp_username": "AKIAIOSFODNN7EXAMPLE",
        "smtp_password": "hunter2-hunter2",
        "smtp_authentication": "plain",
        "emails_per_hour": 1000,
        "use_for_transactionals": True,
        **change,
    }


async def stored(ctx: Context, house: House, number: int) -> dict[str, str]:
    from postroom.actions.connections import load_connection
    from postroom.ids import ConnectionId

    return dict((await load_connection(ctx, house.account, ConnectionId(number))).secrets)


async def test_a_whole_life(house: House, url: str, tmp_path: Path) -> None:
    sink = Sink(SinkOptions(tmp_path / "log"))
    port = await sink.start()
    ours = client(url, house.server_key)
    made = await call(lambda: ours.email_servers.create(**server(port)))
    number = made["id"]
    tested = await call(lambda: ours.email_servers.test_connection(number))
    assert tested["success"] is True
    fetched = await call(lambda: ours.email_servers.get(number))
    assert fetched["active"] is True
    changed = await call(lambda: ours.email_servers.update(number, label="New", emails_per_hour=2000))
    assert (changed["label"], changed["emails_per_hour"]) == ("New", 2000)
    listed = await call(lambda: ours.email_servers.list(limit=10))
    assert [one["id"] for one in listed["data"]] == [number]
    gone = await call(lambda: ours.email_servers.delete(number))
    assert gone["message"] == "Email server deleted successfully"
    with pytest.raises(NotFoundError, match="Email server not found"):
        await call(lambda: ours.email_servers.get(number))
    await sink.stop()


async def test_fetch_then_update_with_everything_fetched_loses_nothing(house: House, url: str) -> None:
    ours = client(url, house.server_key)
    secrets = {name: f"{name}-0123456789abcdef" for name in SECRET_FIELDS}
    made = await call(lambda: ours.email_servers.create(**{**server(25), **secrets}))
    before = await stored(house.ctx, house, made["id"])
    fetched = dict(await call(lambda: ours.email_servers.get(made["id"])))
    number = fetched.pop("id")
    again = dict(await call(lambda: ours.email_servers.update(number, **fetched)))
    assert await stored(house.ctx, house, made["id"]) == before == secrets
    fetched.pop("updated_at")
    assert {name: again[name] for name in fetched} == fetched


async def test_a_failing_test_says_why(house: House, url: str, tmp_path: Path) -> None:
    ours = client(url, house.server_key)
    sink = Sink(SinkOptions(tmp_path / "log", refuse_login=True))
    port = await sink.start()
    made = await call(lambda: ours.email_servers.create(**server(port)))
    with pytest.raises(ValidationError, match="login failed"):
        await call(lambda: ours.email_servers.test_connection(made["id"]))
    await sink.stop()
    with pytest.raises(ValidationError, match="Could not connect"):
        await call(lambda: ours.email_servers.test_connection(made["id"]))
    shown = await call(lambda: ours.email_servers.get(made["id"]))
    assert shown["active"] is False
    assert shown["connection_failed_at"]


async def test_tests_over_tls(house: House, url: str) -> None:
    certs = Certs()
    object.__setattr__(house.ctx, "prober", RealProber(certs))
    users = {"AKIAIOSFODNN7EXAMPLE": "hunter2-hunter2"}
    offered = ("PIPELINING", "AUTH PLAIN")
    async with ScriptedServer({}, tls=certs.server("localhost"), users=users, extensions=offered) as peer:
        ours = client(url, house.server_key)
        made = await call(lambda: ours.email_servers.create(**server(peer.port, smtp_address="localhost")))
        assert (await call(lambda: ours.email_servers.test_connection(made["id"])))["success"]
        object.__setattr__(house.ctx, "prober", RealProber())  # which does not know this authority
        with pytest.raises(ValidationError, match="TLS failed"):
            await call(lambda: ours.email_servers.test_connection(made["id"]))


async def test_wrong_tokens_and_foreign_ids(house: House, url: str) -> None:
    with pytest.raises(AuthenticationError):
        await call(lambda: client(url, "nonsense").email_servers.list())
    made = await call(lambda: client(url, house.server_key).email_servers.create(**server(25)))
    foreign = client(url, house.foreign_key)
    for work in (
        lambda: foreign.email_servers.get(made["id"]),
        lambda: foreign.email_servers.update(made["id"], label="mine"),
        lambda: foreign.email_servers.test_connection(made["id"]),
        lambda: foreign.email_servers.delete(made["id"]),
    ):
        with pytest.raises(NotFoundError):
            await call(work)
    ours = client(url, house.server_key)
    with pytest.raises(AuthorizationError, match="Admin API token required"):
        await call(lambda: ours.email_servers.copy_to_channel(made["id"], house.other_channel))


async def test_an_account_token_within_a_channel(house: House, url: str) -> None:
    admin = client(url, house.account_key, broadcast_channel_id=house.channel)
    made = await call(lambda: admin.email_servers.create(**server(25)))
    copied = await call(lambda: admin.email_servers.copy_to_channel(made["id"], house.other_channel))
    assert copied["id"] != made["id"]
    assert (await call(lambda: admin.email_servers.list()))["total"] == 1
    assert (await call(lambda: admin.whoami()))["channel"]["id"] == house.channel
    with pytest.raises(ValidationError, match="broadcast_channel_id"):
        await call(lambda: client(url, house.account_key).email_servers.list())


async def test_paging(house: House, url: str) -> None:
    ours = client(url, house.server_key)
    for number in range(5):
        await call(lambda n=number: ours.email_servers.create(**server(25, label=f"n{n}")))  # type: ignore[misc]  # bound at once
    seen: list[str] = []
    for offset in range(0, 6, 2):
        page = await call(lambda at=offset: ours.email_servers.list(limit=2, offset=at))  # type: ignore[misc]  # bound at once
        assert page["total"] == 5
        seen += [one["label"] for one in page["data"]]
    assert seen == [f"n{n}" for n in range(5)]


async def test_send_and_send_again_with_the_same_name(house: House, url: str) -> None:
    ours = client(url, house.server_key)
    await call(lambda: ours.email_servers.create(**server(25)))
    mail: dict[str, Any] = {
        "to": "ann@example.net",
        "subject": "Hello",
        "body": "<p>Hi</p>",
        "idempotency_key": "order 17",
    }
    first = await call(lambda: ours.transactionals.create(**mail))
    again = await call(lambda: ours.transactionals.create(**mail))
    assert (again["id"], again.idempotent_replay) == (first["id"], True)
    shown = await call(lambda: ours.transactionals.get(first["id"]))
    assert (shown["recipient_email"], shown["sent_at"]) == ("ann@example.net", None)


async def test_discovery_as_the_client_reads_it(house: House, url: str) -> None:
    ours = client(url, house.server_key)
    assert (await call(lambda: ours.whoami()))["token_type"] == "channel_scoped"
    assert (await call(lambda: ours.status()))["channel"]["name"] == "Shop"
    assert (await call(lambda: ours.prime()))["platform"]["name"] == "Postroom"
    assert isinstance(await call(lambda: ours.skill()), str)
    assert isinstance(await call(lambda: ours.openapi()), str)
