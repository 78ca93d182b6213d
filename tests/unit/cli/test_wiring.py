"""How the parts are joined: fresh folders, lost key files, SMTP targets, limited connection tests."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from postroom import wiring
from postroom.config import Settings, load
from postroom.control.lock import SERVE, Locked
from postroom.control.operations import run
from postroom.core.connection import Connection, DeliveryMethod, Security, Vendor
from postroom.errors import Unavailable
from postroom.host_names import full_host_name, helo_name
from postroom.ids import AccountId, ConnectionId, DeliveryId
from postroom.keyring import KeyringError
from postroom.roads import Roads
from postroom.storage.interface import Sql, Work
from postroom.tracking.tokens import TokenKind
from postroom.transports.api import ApiTransport
from postroom.transports.dialer import Dialer
from postroom.transports.interface import AuthMethod, Fault, Phase, Result, SmtpTarget, StartTls
from postroom.transports.smtp import SmtpTransport


def settings_of(folder: Path, **flags: str) -> Settings:
    return load({"data": str(folder), **flags}, {})


async def test_a_fresh_folder_is_made_private_and_opens_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    async with wiring.opened(settings_of(folder)) as room:
        assert room.fresh
        instance = room.instance
        await run(room.desk, "bootstrap", {})
    uuid.UUID(instance)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("postroom.db", "keys.ring", "lock"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
    async with wiring.opened(settings_of(folder)) as room:
        assert not room.fresh
        assert room.instance == instance
        assert await run(room.desk, "account.list", {}) != {"data": []}


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    async with wiring.opened(settings_of(tmp_path), role=SERVE):
        with pytest.raises(Locked, match="serve"):
            await wiring.open_post_room(settings_of(tmp_path))
    async with wiring.opened(settings_of(tmp_path)):
        pass


async def test_a_lost_key_file_is_never_replaced(tmp_path: Path) -> None:
    async with wiring.opened(settings_of(tmp_path)):
        pass
    (tmp_path / "keys.ring").unlink()
    for _ in range(2):  # the lock was given up in between
        with pytest.raises(KeyringError, match="no key file"):
            await wiring.open_post_room(settings_of(tmp_path))


async def test_z5_a_key_file_that_does_not_fit_is_told_at_start(tmp_path: Path) -> None:
    """Not at the first login: another database's, this one's of before a rotation or after a restore."""
    one = tmp_path / "one"
    async with wiring.opened(settings_of(one)):
        pass
    async with wiring.opened(settings_of(tmp_path / "two")):
        pass
    mine, other = (tmp_path / name / "keys.ring" for name in ("one", "two"))
    before, database = mine.read_bytes(), (one / "postroom.db").read_bytes()

    async def refused() -> str:
        with pytest.raises(KeyringError) as caught:
            await wiring.open_post_room(settings_of(one))
        return str(caught.value)

    mine.write_bytes(other.read_bytes())
    assert "the key file of another database" in await refused()
    key_id = before.decode().split("\n")[2].split()[0]
    mine.write_text(f"{key_id} active {'A' * 43}=\n")
    assert "is not the key file of this database" in await refused()
    mine.chmod(0o644)
    assert "chmod 600" in await refused()
    mine.chmod(0o600)
    mine.write_bytes(before)
    async with wiring.opened(settings_of(one)) as room:
        await run(room.desk, "key_file.rotate", {})
    after = mine.read_bytes()
    mine.write_bytes(before)
    assert "the key file of another database" in await refused()
    mine.write_bytes(after)
    async with wiring.opened(settings_of(one)):
        pass
    (one / "postroom.db").write_bytes(database)
    assert "has retired" in await refused()


async def test_a_key_file_put_there_before_the_database_is_used(tmp_path: Path) -> None:
    async with wiring.opened(settings_of(tmp_path / "one")) as room:
        ring = room.ctx.ring.active_id
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "keys.ring").rename(tmp_path / "two" / "keys.ring")
    async with wiring.opened(settings_of(tmp_path / "two")) as room:
        assert room.ctx.ring.active_id == ring


async def test_what_is_no_database_is_unavailable(tmp_path: Path) -> None:
    async with wiring.opened(settings_of(tmp_path)):
        pass
    (tmp_path / "postroom.db").write_bytes(b"not a database, " * 512)
    with pytest.raises(Unavailable, match="cannot be opened"):
        await wiring.open_post_room(settings_of(tmp_path))


async def test_a_data_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(Unavailable, match="cannot be made"):
        await wiring.open_post_room(settings_of(tmp_path / "data"))


async def test_the_database_says_that_it_is_durable(tmp_path: Path) -> None:
    async with wiring.opened(settings_of(tmp_path)) as room:
        assert await room.desk.database() == {"kind": "sqlite", "journal_mode": "wal", "synchronous": 2}


def connection_of(**fields: object) -> Connection:
    blank = Connection(
        account_id=AccountId(1),
        connection_id=ConnectionId(1),
        server_id=None,
        uid=b"u" * 16,
        label="out",
        vendor=Vendor.OTHER,
        delivery_method=DeliveryMethod.SMTP,
        enabled=True,
        failed_at_us=None,
        failed_reason=None,
        disabled_at_us=None,
        held_until_us=None,
        purposes=frozenset(),
        hourly_cap=None,
        daily_cap=None,
        host="127.0.0.1",
        port=587,
        security=Security.AUTO,
        auth="",
        sender=None,
        options={},
        version=1,
        created_at_us=0,
        updated_at_us=0,
        deleted_at_us=None,
    )
    return replace(blank, **fields)  # type: ignore[arg-type]  # each test names real fields


def roads_of(folder: Path, **flags: str) -> Roads:
    return Roads(settings_of(folder, **flags), Dialer(), "mail.example.org", None)


def target_of(roads: Roads, connection: Connection) -> SmtpTarget:
    transport = roads.transport_for(connection)
    assert isinstance(transport, SmtpTransport)
    return transport.target


@pytest.mark.parametrize(
    ("security", "port", "expected"),
    [
        (Security.AUTO, 587, StartTls.OFFERED),
        (Security.REQUIRED, 587, StartTls.REQUIRED),
        (Security.IMPLICIT, 2465, StartTls.IMPLICIT),
        (Security.NEVER, 25, StartTls.NEVER),
        (Security.AUTO, 465, StartTls.IMPLICIT),
        (Security.NEVER, 465, StartTls.IMPLICIT),
    ],
)
def test_how_the_channel_is_secured(
    tmp_path: Path, security: Security, port: int, expected: StartTls
) -> None:
    target = target_of(roads_of(tmp_path), connection_of(security=security, port=port))
    assert (target.starttls, target.port) == (expected, port)


def test_login_name_and_waits_reach_the_target(tmp_path: Path) -> None:
    roads = roads_of(tmp_path, allow_clear_auth="true", smtp_reply_timeout="7s")
    secrets = {"smtp_username": "u", "smtp_password": "p"}
    target = target_of(roads, connection_of(auth="cram_md5", secrets=secrets))
    assert (target.auth, target.username, target.password) == (AuthMethod.CRAM_MD5, "u", "p")
    assert (target.helo_name, target.allow_clear_auth) == ("mail.example.org", True)
    assert target.timeouts.reply_s == 7.0
    assert target_of(roads_of(tmp_path), connection_of()).auth is None


async def test_a_vendors_api_is_not_pretended(tmp_path: Path) -> None:
    roads, connection = roads_of(tmp_path), connection_of(delivery_method=DeliveryMethod.API)
    assert roads.transport_for(connection) is None
    outcome = await roads.probe(connection)
    assert (outcome.result, outcome.fault) == (Result.RETURNED, Fault.OURS)
    assert "no way to send by this vendor's API" in outcome.text


SES_KEY = {"outbound_aws_access_key_id": "AKIA", "outbound_aws_secret_access_key": "s"}


@pytest.mark.parametrize(
    ("flags", "vendor", "options", "url"),
    [
        ({}, Vendor.AWS_SES, {"aws_region": "eu-west-1"}, "https://email.eu-west-1.amazonaws.com"),
        ({}, Vendor.POSTMARK, {}, "https://api.postmarkapp.com"),
        (
            {"aws_ses_api_url": "https://ses.example.org/x"},
            Vendor.AWS_SES,
            {"aws_region": "eu-west-1"},
            "https://ses.example.org/x",
        ),
        ({"aws_ses_api_url": "https://ses.example.org"}, Vendor.POSTMARK, {}, "https://api.postmarkapp.com"),
        ({"postmark_api_url": "http://[::1]:8080"}, Vendor.POSTMARK, {}, "http://[::1]:8080"),
        (
            {"postmark_api_url": "https://a.example.org"},
            Vendor.POSTMARK,
            {"api_url": "https://b.example.org:8443"},
            "https://b.example.org:8443",
        ),
    ],
)
def test_an_api_is_where_the_connection_the_setting_or_the_vendor_says(
    tmp_path: Path, flags: dict[str, str], vendor: Vendor, options: dict[str, object], url: str
) -> None:
    roads = roads_of(tmp_path, api_reply_timeout="9s", **flags)
    secrets = {**SES_KEY, "postmark_api_token": "token"}
    way = roads.transport_for(
        connection_of(delivery_method=DeliveryMethod.API, vendor=vendor, options=options, secrets=secrets)
    )
    assert isinstance(way, ApiTransport)
    assert str(way.target.url) == url
    assert way.target.timeouts.reply_s == 9.0


def test_botocore_is_not_imported_before_it_signs() -> None:
    code = (
        "import sys; import postroom.serving.process, postroom.roads; "
        "assert not [m for m in sys.modules if m.startswith('botocore')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A port where somebody listens who never says anything."""
    over = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        over.set()


async def test_a_connection_test_ends_in_its_time(tmp_path: Path, silent_port: int) -> None:
    outcome = await roads_of(tmp_path, test_connection_timeout="0.3s").probe(connection_of(port=silent_port))
    assert (outcome.fault, outcome.phase) == (Fault.CONNECTION, Phase.BANNER)


@pytest.mark.parametrize(
    ("host", "full", "expected"),
    [
        ("mail.example.org", "x", "mail.example.org"),
        ("Mail.Example.org.", "x", "mail.example.org"),
        ("box", "box.example.org", "box.example.org"),
        ("box", "box", ""),
        ("10.0.0.7", "x", ""),
    ],
)
def test_the_full_host_name_has_a_domain_or_is_empty(
    monkeypatch: pytest.MonkeyPatch, host: str, full: str, expected: str
) -> None:
    answer: Callable[[str], str] = lambda name: full  # noqa: E731
    monkeypatch.setattr("socket.gethostname", lambda: host)
    monkeypatch.setattr("socket.getfqdn", answer)
    assert full_host_name() == expected
    assert helo_name() == (expected or host)


async def test_k1_links_work_over_a_restart_and_after_their_key_was_retired(tmp_path: Path) -> None:
    delivery = DeliveryId(7)
    async with wiring.opened(settings_of(tmp_path)) as room:
        old = room.links.token(TokenKind.UNSUBSCRIBE, delivery)
    async with wiring.opened(settings_of(tmp_path)) as room:
        assert room.links.token(TokenKind.UNSUBSCRIBE, delivery) == old
        ring = room.ctx.ring
        uid = secrets.token_bytes(16)
        sealed = ring.seal(b"n" * 32, uid=uid, table="instance_keys", field="key")

        def renew() -> Work[None]:
            yield Sql("UPDATE instance_keys SET retired_at = 1 WHERE kind = 'unsubscribe'")
            yield Sql(
                "INSERT INTO instance_keys (kind, key_id, uid, sealed, created_at)"
                " VALUES ('unsubscribe', 2, :uid, :sealed, 2)",
                {"uid": uid, "sealed": sealed},
            )

        await room.store.write(renew)
    async with wiring.opened(settings_of(tmp_path)) as room:
        assert room.links.token(TokenKind.UNSUBSCRIBE, delivery) != old
        found = room.links.read(TokenKind.UNSUBSCRIBE, old)
        assert found is not None
        assert found.delivery_id == delivery
    async with wiring.opened(settings_of(tmp_path / "another")) as room:
        assert room.links.read(TokenKind.UNSUBSCRIBE, old) is None
