"""Secrets go in and never out: a canary in every secret field, a whole life at debug level, then a search.

Searched are the data folder (database, its log, journals; the key file is where keys may be), what `serve`
logs, and every answer over HTTP and the control socket, save those that show a new key once.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

from drills.feed import HttpConnection
from drills.post import Post
from postroom.errors import PostroomError
from tests.delivery.killing import until
from tests.e2e.canaries import core_of, echo, files_below, found, planted, spellings
from tests.support.dkim_corpus import RSA_PEM

SETTINGS = {
    "log_level": "debug",
    "unknown_wait": "0s",
    "drain": "1s",
    "backoff_first": "0.1s",
    "retry_first_wait": "0.1s",
}
WRONG_KEY = "prs_0wrongkeyofsomebodyelse0q8x4v2"


class Caller:
    """Asks `serve` both ways and keeps every byte that came back."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.answers: list[tuple[str, bytes]] = []
        self._http = HttpConnection()

    async def http(
        self, method: str, path: str, key: str, body: object = None, raw: bytes | None = None
    ) -> tuple[int, Any]:
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._http.close()  # the next `serve` listens elsewhere
        status, answer = await self._http.request(self.post.url, method, path, headers, data)
        self.answers.append((f"the answer to {method} {path}", self._http.head + answer))
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, None

    async def control(self, operation: str, **args: object) -> Any:
        try:
            answer = await self.post.ask(operation, **args)
        except PostroomError as error:
            self.answers.append((f"the refusal of {operation}", repr((error, vars(error))).encode()))
            return None
        self.answers.append((f"the answer to {operation}", json.dumps(answer).encode()))
        return answer

    def close(self) -> None:
        self._http.close()


def server_fields(secrets: dict[str, str], port: int, label: str) -> dict[str, object]:
    return {
        "label": label,
        "emails_per_hour": 1000,
        "use_for_transactionals": True,
        "use_for_broadcasts": True,
        "smtp_address": "127.0.0.1",
        "smtp_port": port,
        "smtp_authentication": "plain",
        "smtp_enable_starttls_auto": False,
        **secrets,
    }


async def over_http(
    caller: Caller, key: str, first: dict[str, str], second: dict[str, str], port: int
) -> None:
    """Every call about email servers, right and wrong."""
    path = "/api/v1/email_servers"
    status, made = await caller.http("POST", path, key, {"email_server": server_fields(first, port, "good")})
    assert status == 201
    status, bad = await caller.http("POST", path, key, {"email_server": server_fields(second, port, "bad")})
    assert status == 201
    for one in (made["id"], bad["id"]):
        await caller.http("GET", f"{path}/{one}", key)
        await caller.http("POST", f"{path}/{one}/test_connection", key, {})
    await caller.http("GET", path, key)
    await caller.http("PATCH", f"{path}/{bad['id']}", key, {"email_server": {**second, "label": "worse"}})
    wrong = {name: f"{value}\r\nQUIT" for name, value in second.items()}
    for given in (wrong, {**second, "smtp_port": -1}, {name: [value] for name, value in second.items()}):
        status, _ = await caller.http("PATCH", f"{path}/{bad['id']}", key, {"email_server": given})
        assert status in (400, 422)
    broken = json.dumps({"email_server": second}).encode()[:-1] + b",,"
    assert (await caller.http("PATCH", f"{path}/{bad['id']}", key, raw=broken))[0] == 400
    assert (await caller.http("GET", path, WRONG_KEY))[0] == 401
    assert (await caller.http("GET", f"{path}/{first['smtp_password']}", key))[0] == 404
    for asked in ("whoami", "status", "prime", "skill", "openapi"):
        await caller.http("GET", f"/api/v1/{asked}", key)


async def over_the_socket(caller: Caller, second: dict[str, str], port: int) -> None:
    """Every operation that sees a connection, a key or a setting, right and wrong."""
    fields = {"label": "third", "host": "127.0.0.1", "port": port, "security": "never", "auth": "plain"}
    made = await caller.control("connection.create", fields={**fields, "for_broadcast": True}, secrets=second)
    number = made["connection_id"]
    await caller.control("connection.show", connection=number)
    await caller.control("connection.list")
    await caller.control("connection.test", connection=number)
    await caller.control("connection.update", connection=number, fields={"port": 0}, secrets=second)
    await caller.control("connection.update", connection=number, fields={"port": port}, secrets=second)
    wrong = {name: [value] for name, value in second.items()}
    await caller.control("connection.update", connection=number, fields={}, secrets=wrong)
    await caller.control("connection.delete", connection=number)
    for operation in ("key.list", "server.list", "config", "health", "message.list"):
        await caller.control(operation)


async def dkim_keys(caller: Caller) -> None:
    """A private key is taken over, right and wrong, and signs from then on."""
    pem = RSA_PEM.read_text()
    await caller.control("identity.trust", value="example.com")
    given = {"domain": "example.com", "selector": "s"}
    for wrong in (pem[:-100], pem.replace("PRIVATE", "SECRET"), pem * 20):
        assert await caller.control("dkim.make", **given, private_key=wrong) is None
    await caller.control("dkim.make", **given, private_key=pem)
    assert await caller.control("dkim.make", **given, private_key=pem) is None
    await caller.control("dkim.list", domain="example.com")
    await caller.control("dkim.activate", **given, unchecked=True)


async def with_a_broken_dkim_key(caller: Caller, key: str) -> None:
    """Its mail is held, and says why."""
    database = sqlite3.connect(caller.post.database, isolation_level=None, timeout=10)
    database.execute("UPDATE dkim_keys SET sealed = substr(sealed, 1, length(sealed) - 1)")
    database.close()
    mail = {"to": "held@example.net", "subject": "s", "body": "<p>b</p>"}
    assert (await caller.http("POST", "/api/v1/transactionals", key, mail))[0] == 201
    await until(lambda: caller.post.recipients()["held@example.net"] == "held")
    for shown in (await caller.control("message.list"))["data"]:
        await caller.control("explain", message=str(shown["message_id"]))


async def mail(caller: Caller, key: str, word: str) -> None:
    """Mail that is taken, refused and deferred, and what is said about it."""
    for person in (f"{word}@example.net", f"bounce{word}@example.net", f"defer{word}@example.net"):
        status, made = await caller.http(
            "POST", "/api/v1/transactionals", key, {"to": person, "subject": "s", "body": "<p>b</p>"}
        )
        assert status == 201
        await caller.http("GET", f"/api/v1/transactionals/{made['id']}", key)

    def settled() -> bool:
        states = caller.post.recipients()
        return states[f"{word}@example.net"] == "sent" and states[f"bounce{word}@example.net"] == "bounced"

    await until(settled)
    for shown in (await caller.control("message.list"))["data"]:
        await caller.control("message.show", message=str(shown["message_id"]))
        await caller.control("explain", message=str(shown["message_id"]))


async def with_a_fault(caller: Caller, key: str, secrets: dict[str, str]) -> None:
    """An exception in the middle of a write that holds every secret, and one while secrets are opened."""
    database = sqlite3.connect(caller.post.database, isolation_level=None, timeout=10)
    path = "/api/v1/email_servers/1"
    database.execute("ALTER TABLE connection_secrets RENAME TO away")
    status, _ = await caller.http("PATCH", path, key, {"email_server": secrets})
    assert status >= 500
    await caller.control("connection.update", connection=1, fields={}, secrets=secrets)
    database.execute("ALTER TABLE away RENAME TO connection_secrets")
    kept = database.execute("SELECT rowid, sealed FROM connection_secrets").fetchall()
    database.execute("UPDATE connection_secrets SET sealed = substr(sealed, 1, length(sealed) - 1)")
    await caller.http("GET", path, key)
    await caller.http("POST", f"{path}/test_connection", key, {})
    for row, sealed in kept:
        database.execute("UPDATE connection_secrets SET sealed = ? WHERE rowid = ?", (sealed, row))
    database.close()


def sealing_key(ring: Path) -> str:
    """The key itself, as the file has it; a line is: id, state, base64, time."""
    _, _, key, _ = ring.read_text().splitlines()[-1].split()
    assert len(base64.b64decode(key, validate=True)) == 32
    return key


async def test_no_secret_comes_out_anywhere(tmp_path: Path) -> None:
    post = Post(tmp_path, SETTINGS)
    first, second = planted("Ga"), planted("Gb")
    async with echo(everywhere=True) as peer:
        peer.takes.add(first["smtp_username"])
        caller = Caller(post)
        await post.start()
        try:
            keys = await post.ask("bootstrap", sender="shop@example.com")
            later = await post.ask("key.create", label="later")
            key = keys["server_key"]
            await over_http(caller, key, first, second, peer.port)
            await over_the_socket(caller, second, peer.port)
            await dkim_keys(caller)
            await mail(caller, key, "one")
            await post.kill()
            leaked = list(files_below(tmp_path, but=[post.data / "keys.ring"]))  # as the crash left it
            await post.start()
            await with_a_fault(caller, key, second)
            await mail(caller, key, "two")
            await post.kill()
            await post.start()  # which has not opened the key yet
            await with_a_broken_dkim_key(caller, key)
            assert (await caller.http("DELETE", "/api/v1/email_servers/2", key))[0] == 200
        finally:
            caller.close()
            code = await post.stop()
    assert code == 0
    # The canaries were alive: the peer heard both logins, and the log has what happened.
    assert any(first["smtp_password"].encode() in one for one in peer.heard)
    assert any(second["smtp_password"].encode() in one for one in peer.heard)
    assert "Traceback" in post.log.read_text()
    secrets = {f"{name} (first)": core_of(value) for name, value in first.items()}
    secrets |= {f"{name} (second)": core_of(value) for name, value in second.items()}
    secrets |= {
        "the account key": keys["account_key"][4:],
        "the server key": keys["server_key"][4:],
        "the later key": later["key"][4:],
        "somebody's wrong key": WRONG_KEY[4:],
        "the DKIM key": RSA_PEM.read_text().splitlines()[12],
        "the sealing key": sealing_key(post.data / "keys.ring"),
    }
    places = [*leaked, *files_below(tmp_path, but=[post.data / "keys.ring"]), *caller.answers]
    assert len(caller.answers) > 60
    leaks = "\n".join(sorted(set(found(places, secrets))))
    assert not leaks, leaks
    assert peer.signatures, "the key was alive"
    private = base64.b64decode("".join(RSA_PEM.read_text().splitlines()[2:-1]))[500:560]
    assert [place for place, data in places if private in data] == []


def test_the_search_finds_each_spelling() -> None:
    for before in ("", "a", "ab", "abc"):
        for how, text in spellings("user1secret"):
            assert found([("here", before.encode() + text + b"z")], {"it": "user1secret"}) != [], how
    assert found([("here", b"user1 secret")], {"it": "user1secret"}) == []
