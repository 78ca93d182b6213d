"""TLS on the wire (S13, S19, S20) and the certificates behind it."""

from __future__ import annotations

import asyncio
import ssl
import stat
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from postroom.errors import Invalid, Unavailable
from postroom.inbound.submission import ClearAuth
from postroom.inbound.tls import LOOK_EVERY_S, server_tls
from tests.inbound.submission.desk import Dialogue, dialogue, open_desk, plain, until
from tests.support.certs import Certs
from tests.support.clock import FakeClock


async def upgrade(client: Dialogue, tls: ssl.SSLContext) -> None:
    await client.writer.start_tls(tls, server_hostname="localhost")


async def test_s13_what_follows_starttls_in_clear_text_ends_the_session(tmp_path: Path, certs: Certs) -> None:
    async with open_desk(tmp_path, tls=certs.server()) as desk:
        async with dialogue(desk.port) as client:
            await client.greet()
            client.writer.write(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")
            assert await client.replies() == [
                "554 5.5.1 Nothing may follow STARTTLS before the handshake",
            ]
        async with dialogue(desk.port) as client:
            await client.greet()
            assert (await client.say(b"STARTTLS now"))[:9] == "501 5.5.4"
            assert (await client.say(b"STARTTLS"))[:9] == "220 2.0.0"
            client.writer.write(b"EHLO in the clear\r\n")
            assert await client.replies() == []
            await until(lambda: not desk.server.sessions)


async def test_s13_s9_nothing_learnt_in_clear_text_counts(tmp_path: Path, certs: Certs) -> None:
    async with open_desk(tmp_path, tls=certs.server(), clear_auth=ClearAuth.LOOPBACK) as desk:
        async with dialogue(desk.port) as client:
            await client.log_in(desk.text)
            await client.address()
            assert (await client.say(b"STARTTLS"))[:3] == "220"
            await upgrade(client, certs.client())
            assert (await client.say(b"MAIL FROM:<shop@example.com>"))[:3] == "503"
            client.writer.write(b"EHLO me\r\n")
            offered = await client.whole_reply()
            assert "250-AUTH PLAIN LOGIN CRAM-MD5" in offered
            assert "250-STARTTLS" not in offered
            assert (await client.say(b"STARTTLS"))[:9] == "503 5.5.1"
            assert (await client.say(b"DATA"))[:3] == "530"
            assert (await client.say(b"MAIL FROM:<shop@example.com>"))[:3] == "530"
            assert (await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text)))[:3] == "235"
            assert (await client.send())[:3] == "250"
        assert len(await desk.stored()) == 1


@pytest.mark.parametrize("implicit", [True, False])
async def test_s19_a_handshake_that_does_not_end(tmp_path: Path, certs: Certs, implicit: bool) -> None:
    async with (
        open_desk(
            tmp_path,
            tls=certs.server(),
            implicit_tls=implicit,
            sessions={"handshake_s": 0.1, "max_sessions": 1},
        ) as desk,
        dialogue(desk.port) as client,
    ):
        if not implicit:
            await client.greet()
            assert (await client.say(b"STARTTLS"))[:3] == "220"
        client.writer.write(b"\x16\x03\x01")
        await until(lambda: len(desk.server.sessions) == 1)
        async with dialogue(desk.port) as second:
            assert (await second.reply())[:3] == ("" if implicit else "421")
        assert await client.reply() == ""
        await until(lambda: not desk.server.sessions)


@pytest.mark.parametrize("implicit", [True, False])
async def test_s19_a_handshake_that_drips(tmp_path: Path, certs: Certs, implicit: bool) -> None:
    """Its time is that of the whole handshake: bytes that come keep nothing open."""
    bounds = {"handshake_s": 0.1}
    async with (
        open_desk(tmp_path, tls=certs.server(), implicit_tls=implicit, sessions=bounds) as desk,
        dialogue(desk.port) as client,
    ):
        if not implicit:
            await client.greet()
            assert (await client.say(b"STARTTLS"))[:3] == "220"
        client.writer.write(b"\x16\x03\x01\x3f\xff\x01\0\x3f\xfb")  # a ClientHello that goes on and on
        await until(lambda: len(desk.server.sessions) == 1)
        async with asyncio.timeout(5):
            while desk.server.sessions:
                client.writer.write(b"\0")
                await asyncio.sleep(0.005)


async def test_s19_garbage_instead_of_a_handshake(tmp_path: Path, certs: Certs) -> None:
    async with open_desk(tmp_path, tls=certs.server(), implicit_tls=True) as desk:
        for data in (b"EHLO me\r\n", b"", b"\x16\x03\x01\x00\x00" * 1000):
            async with dialogue(desk.port) as client:
                client.writer.write(data)
                client.writer.write_eof()
                heard = await client.reader.read()
                assert heard[:1] in (b"", b"\x15"), "nothing, or a TLS alert: no word of SMTP in clear text"
                await until(lambda: not desk.server.sessions)
        async with dialogue(desk.port, certs.client()) as client:
            await client.log_in(desk.text)


@pytest.mark.parametrize("implicit", [True, False])
async def test_s20_old_tls_is_refused(tmp_path: Path, implicit: bool) -> None:
    own = await asyncio.to_thread(server_tls, tmp_path / "tls", "localhost")
    old = ssl.create_default_context(cafile=str(own.certificate))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with open_desk(tmp_path, tls=own.context, implicit_tls=implicit) as desk:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await _begin_tls(desk.port, old, implicit)
        await until(lambda: not desk.server.sessions)


@pytest.mark.parametrize("ciphers", ["eNULL", "aNULL", "PSK"])
async def test_s20_weak_ciphers_are_refused(tmp_path: Path, ciphers: str) -> None:
    own = await asyncio.to_thread(server_tls, tmp_path / "tls", "localhost")
    weak = ssl.create_default_context(cafile=str(own.certificate))
    weak.maximum_version = ssl.TLSVersion.TLSv1_2  # the ciphers of TLS 1.3 cannot be left out
    weak.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    async with open_desk(tmp_path, tls=own.context, implicit_tls=True) as desk:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await _begin_tls(desk.port, weak, True)
        await until(lambda: not desk.server.sessions)


async def _begin_tls(port: int, tls: ssl.SSLContext, implicit: bool) -> None:
    async with dialogue(port, tls if implicit else None) as client:
        await client.greet()
        await client.say(b"STARTTLS")
        await upgrade(client, tls)


async def test_stop_ends_a_handshake_too(tmp_path: Path, certs: Certs) -> None:
    async with open_desk(tmp_path, tls=certs.server(), implicit_tls=True) as desk, dialogue(desk.port):
        await until(lambda: len(desk.server.sessions) == 1)
        await asyncio.wait_for(desk.server.stop(), 3)


async def test_early_data_behind_the_handshake_is_heard(tmp_path: Path, certs: Certs) -> None:
    async with open_desk(tmp_path, tls=certs.server(), implicit_tls=True) as desk:
        tls = certs.client()
        for _ in range(10):
            async with dialogue(desk.port, tls) as client:
                client.writer.write(b"EHLO me\r\nQUIT\r\n")
                assert [reply[:3] for reply in await client.replies()] == ["220", "250", "221"]


async def test_a_self_made_certificate_works_for_who_trusts_it(tmp_path: Path) -> None:
    own = await asyncio.to_thread(server_tls, tmp_path / "tls", "host.example")
    assert own.self_made
    trusting = ssl.create_default_context(cafile=str(own.certificate))
    async with open_desk(tmp_path, tls=own.context, implicit_tls=True) as desk:
        async with dialogue(desk.port, trusting) as client:
            await client.log_in(desk.text)
        with pytest.raises(ssl.SSLCertVerificationError):
            async with dialogue(desk.port, ssl.create_default_context()):
                pass
        await until(lambda: not desk.server.sessions)


def test_the_pair_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    own = server_tls(folder, "host.example")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"certificate.pem", "key.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    certificate = x509.load_pem_x509_certificate(own.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "host.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert 3650 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 3660
    assert own.context().minimum_version == ssl.TLSVersion.TLSv1_2
    server_tls(folder, "host.example")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


@pytest.mark.parametrize("damage", ["certificate.pem", "key.pem"])
@pytest.mark.parametrize("data", [None, b"", b"torn", "other"])
def test_a_damaged_pair_is_made_anew(tmp_path: Path, damage: str, data: bytes | str | None) -> None:
    folder, path = tmp_path / "tls", tmp_path / "tls" / damage
    server_tls(folder, "localhost")
    if data is None:
        path.unlink()
    elif isinstance(data, str):
        server_tls(tmp_path / "other", "localhost")
        path.write_bytes((tmp_path / "other" / damage).read_bytes())
    else:
        path.write_bytes(data)
    assert server_tls(folder, "bad host name!").self_made
    before = (folder / "key.pem").read_bytes()
    assert server_tls(folder, "localhost").self_made
    assert (folder / "key.pem").read_bytes() == before


def test_the_operators_own_certificate(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("mail.example")
    both, certificate, key = tmp_path / "both.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(both))
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    leaf.private_key_pem.write_to_path(str(key))
    for given in ((both, None), (certificate, key)):
        found = server_tls(tmp_path / "tls", "localhost", *given)
        assert (found.self_made, found.certificate) == (False, given[0])
    assert not (tmp_path / "tls").exists()
    for wrong in ((certificate, None), (tmp_path / "none.pem", key), (key, key), (None, key)):
        with pytest.raises(Invalid, match="smtp_tls_cert"):
            server_tls(tmp_path / "tls", "localhost", *wrong)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "tls").write_bytes(b"")
    with pytest.raises(Unavailable, match="no certificate can be made"):
        server_tls(tmp_path / "tls", "localhost")


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    folder, other, clock = tmp_path / "tls", tmp_path / "other", FakeClock()
    first = await asyncio.to_thread(server_tls, folder, "localhost", None, None, clock)
    await asyncio.to_thread(server_tls, other, "localhost")
    old, new = (
        ssl.create_default_context(cafile=str(place / "certificate.pem")) for place in (folder, other)
    )
    async with open_desk(tmp_path, tls=first.context, implicit_tls=True) as desk:
        async with dialogue(desk.port, old) as open_before:
            await open_before.log_in(desk.text)
            (other / "certificate.pem").replace(folder / "certificate.pem")
            clock.advance(LOOK_EVERY_S)
            async with dialogue(desk.port, old) as half_way:  # its key is not there yet: the old pair stays
                await half_way.greet()
            (other / "key.pem").replace(folder / "key.pem")
            async with dialogue(desk.port, old) as too_soon:
                await too_soon.greet()
            clock.advance(LOOK_EVERY_S)
            async with dialogue(desk.port, new) as client:
                await client.log_in(desk.text)
                assert (await client.send())[:3] == "250"
            with pytest.raises(ssl.SSLCertVerificationError):
                async with dialogue(desk.port, old):
                    pass
            assert (await open_before.send())[:3] == "250"
        assert len(await desk.stored()) == 2


async def test_a_certificate_that_is_gone_stays_in_force(tmp_path: Path) -> None:
    clock = FakeClock()
    own = await asyncio.to_thread(server_tls, tmp_path / "tls", "localhost", None, None, clock)
    before = own.context()
    own.certificate.unlink()
    clock.advance(LOOK_EVERY_S)
    assert own.context() is before
