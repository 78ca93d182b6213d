"""`python -m drills.fuzz --seconds 600`: requests that nobody sane would make, at a running `serve`.

Half of them begin as what the APIs' own OpenAPI documents ask for, so that they come past the first check,
and are then bent: in values, in bytes, in the framing of HTTP. What must hold is plain: no answer above 499
but 503, no traceback in the log, the process lives, answers what is right, and needs no more memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml

MOST_RSS_MB = 400
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) ")
_FIRST_S, _QUIET_S = 0.6, 0.06
_METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "\x00")
_NASTY: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 14, 15, 2**31, 2**63, -(2**63) - 1, 1.5, 1e308, -0.0),
    *(
        "",
        " ",
        "\x00",
        "a\r\nBcc: eve@evil.example",
        "\u2028",
        "\u202e",
        "\ud800",
        "\ufeff",
        "x" * 300,
        "é" * 5_000,
    ),
    *(
        "ann@example.net",
        "Ann <ann@example.net>",
        "a@b@c",
        "(" * 3_000,
        '"a b"@example.net',
        "ann@münchen.example",
    ),
    *("=?utf-8?q?a=0D=0Ab?=", "{{7*7}}", "%s%n", "../../etc/passwd", "' OR 1=1 --", "<script>", "<p>Hi</p>"),
    *(
        "127.0.0.1",
        "[::1]",
        "0x7f.1",
        "mail.invalid",
        "1",
        "1000",
        "1e9",
        "NaN",
        "true",
        "2024-02-30",
        "•" * 8,
    ),
    *([], {}, [[]], [None], {"": 0}, ["ann@example.net"] * 50),
)
_KEY_HEADERS = ("X-Postmark-Server-Token", "X-Postmark-Account-Token")
_CONTENT_TYPES = (
    *(
        "application/json",
        "application/json; charset=utf-16",
        "text/plain",
        "",
        "multipart/form-data; boundary=x",
    ),
    *("application/x-www-form-urlencoded", "application/json;" + "a;" * 2_000),
)


@dataclass(frozen=True)
class Target:
    """One operation: method, path with {id} in it, and the names its body may have, by what they are in."""

    method: str
    path: str
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def targets_of(text: str) -> list[Target]:
    """The operations of an OpenAPI document."""
    document = yaml.safe_load(text)
    schemas = document.get("components", {}).get("schemas", {})
    base = urlsplit(document["servers"][0]["url"]).path
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not isinstance(operation, dict):
                continue
            contents = operation.get("requestBody", {}).get("content", {}).values()
            names = _names(next((one.get("schema") for one in contents), None), schemas)
            found.append(Target(method.upper(), base + path, names))
    return found


def _names(
    schema: object, schemas: Mapping[str, object], inside: str = "", depth: int = 0
) -> dict[str, list[str]]:
    if not isinstance(schema, dict) or depth > 4:
        return {}
    if isinstance(schema.get("$ref"), str):
        return _names(schemas.get(schema["$ref"].rpartition("/")[2]), schemas, inside, depth + 1)
    found: dict[str, list[str]] = {}
    for one in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        for place, names in _names(one, schemas, inside, depth + 1).items():
            found.setdefault(place, []).extend(names)
    for name, below in schema.get("properties", {}).items():
        found.setdefault(inside, []).append(name)
        found.update(_names(below, schemas, name, depth + 1))
    return found


class Maker:
    """Makes requests, the same ones for the same seed."""

    def __init__(self, seed: int, targets: Sequence[Target], keys: Sequence[str]) -> None:
        self._chance = random.Random(seed)
        self._targets, self._keys = targets, keys

    def burst(self) -> bytes:
        """What one connection sends: one request or several."""
        return b"".join(self.request() for _ in range(self._chance.choice((1, 1, 1, 2, 5))))

    def request(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.05:
            return chance.randbytes(chance.randrange(1, 2_000))
        target = chance.choice(self._targets)
        body = b"" if target.method == "GET" and chance.random() < 0.8 else self._body(target)
        whole = self._head(target, len(body)) + body
        return self._bent(whole) if chance.random() < 0.2 else whole

    def _head(self, target: Target, length: int) -> bytes:
        chance = self._chance
        method = target.method if chance.random() < 0.9 else chance.choice(_METHODS)
        path = re.sub(
            r"\{[^}]*\}",
            lambda _: str(chance.choice((1, 2, 3, "-1", "%00", "x", 2**64, "1.json"))),
            target.path,
        )
        if chance.random() < 0.2:
            path += chance.choice(
                (".json", "/", "//", "/..", "?limit=-1&offset=x", "?" + "a=b&" * 300, "%ff", "\u00e9")
            )
        lines = [f"{method} {path} HTTP/1.1", "Host: fuzz.example"]
        if chance.random() < 0.95:
            lines.append(f"Authorization: Bearer {chance.choice(self._keys)}")
            lines += [f"{name}: {chance.choice(self._keys)}" for name in _KEY_HEADERS]
        lines.append(
            f"Content-Type: {chance.choice(_CONTENT_TYPES) if chance.random() < 0.2 else _CONTENT_TYPES[0]}"
        )
        if chance.random() < 0.1:
            lines.append(f"Idempotency-Key: {chance.choice(('a', 'b', 'é', 'x' * 300))}")
        if chance.random() < 0.1:
            lines.append(
                chance.choice(
                    ("Expect: 100-continue", "X: " + "y" * 20_000, "X-A: 1\r\n" * 150, "A : b", "\x00: b")
                )
            )
        if chance.random() < 0.05:
            lines.append(
                chance.choice(("Transfer-Encoding: chunked", "Content-Length: -1", "Content-Length: 0"))
            )
        lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass")

    def _body(self, target: Target) -> bytes:
        chance = self._chance
        value = self._object(target, "")
        if chance.random() < 0.05:
            return b"[" * chance.randrange(1, 5_000)
        return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")

    def _object(self, target: Target, place: str, depth: int = 0) -> dict[str, object]:
        chance, found = self._chance, dict[str, object]()
        for name in target.names.get(place, ()):
            if chance.random() < 0.3:
                continue
            below = name in target.names and depth < 3 and chance.random() < 0.8
            found[name] = self._object(target, name, depth + 1) if below else self._value()
        return found

    def _value(self) -> object:
        chance = self._chance
        if chance.random() < 0.1:
            return [chance.choice(_NASTY) for _ in range(chance.randrange(4))]
        return chance.choice(_NASTY)

    def _bent(self, data: bytes) -> bytes:
        """Some bytes changed, gone, doubled or added."""
        chance, bent = self._chance, bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(bent) + 1)
            how = chance.randrange(4)
            if how == 0:
                bent[at : at + 1] = chance.randbytes(1)
            elif how == 1:
                del bent[at : at + chance.randrange(1, 20)]
            elif how == 2:
                bent[at:at] = bent[at : at + chance.randrange(1, 50)]
            else:
                bent[at:at] = chance.choice(
                    (b"\r\n", b"\n", b"\x00", b"\r\n\r\n", b'"', b"}", b"GET / HTTP/1.1\r\n\r\n")
                )
        return bytes(bent)


async def talk(port: int, data: bytes) -> bytes:
    """Send it in one connection, and what comes back until it is quiet or closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    try:
        writer.write(data)
        patience_s = _FIRST_S
        while piece := await asyncio.wait_for(reader.read(65_536), patience_s):
            heard += piece
            patience_s = _QUIET_S
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return heard


async def fuzz(
    port: int, maker: Maker, *, bursts: int, until_s: float = float("inf"), at_once: int = 24
) -> Counter[int]:
    """How often each status was answered. Raises AssertionError for one that must not be."""
    seen: Counter[int] = Counter()
    left = iter(range(bursts))

    async def one_after_the_other() -> None:
        for _ in left:
            if time.monotonic() > until_s:
                return
            data = maker.burst()
            statuses = [int(status) for status in _STATUS.findall(await talk(port, data))]
            seen.update(statuses)
            wrong = [status for status in statuses if status >= 500 and status != 503]
            assert not wrong, f"{wrong} for {data[:3_000]!r}"

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())
    return seen


def _documents(url: str, key: str) -> Iterator[str]:
    headers = {"Authorization": f"Bearer {key}", "X-Postmark-Server-Token": key}
    for path in OPENAPI:
        request = urllib.request.Request(url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            yield response.read().decode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Start `serve`, fuzz it, judge it."""
    from tests.e2e.conftest import ask
    from tests.support.serve import serving

    parser = argparse.ArgumentParser(prog="drills.fuzz", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    environment = {"POSTROOM_API_RATE_PER_MINUTE": "0", "POSTROOM_DIAL_PRIVATE": "none"}
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with serving(folder / "data", environment=environment) as serve:
        made = serve.ask("bootstrap", sender="shop@example.com")
        serve.ask("account.update", account=1, may_delete_servers=False)  # it must outlive what is sent at it
        keys = [made["server_key"], made["account_key"]]
        maker = Maker(
            given.seed, [one for text in _documents(serve.url, keys[0]) for one in targets_of(text)], keys
        )
        port = int(serve.url.rpartition(":")[2])
        until_s = time.monotonic() + given.seconds
        seen = asyncio.run(fuzz(port, maker, bursts=10**9, until_s=until_s))
        problems = []
        rss_mb = (
            int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{serve.process.pid}/status").read_text())[0]) >> 10
        )
        if rss_mb > MOST_RSS_MB:
            problems.append(f"it needs {rss_mb} MB")
        if ask(serve.url + "/api/v1/whoami", keys[0])[0] != 200:
            problems.append("it does not answer what is right")
        if "Traceback" in serve.log.read_text():
            problems.append(f"a traceback in {serve.log}")
    print(f"{sum(seen.values())} answers, {rss_mb} MB: {dict(sorted(seen.items()))}")
    print("FAILED: " + "; ".join(problems) if problems else "ok")
    return 1 if problems else 0


OPENAPI = ("/api/v1/openapi", "/api/v2/mail/providers/openapi", "/servers/openapi")

if __name__ == "__main__":
    sys.exit(main())
