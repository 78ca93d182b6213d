"""`postroom key-file` beside a running `serve`: its ring changes with the file, and no key is ever shown."""

from __future__ import annotations

from pathlib import Path

from postroom.cli import exits
from tests.support.serve import Serve, postroom


def key_bytes(data: Path) -> list[str]:
    """What no output may contain."""
    lines = (data / "keys.ring").read_text().splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()[2:3] if word != "-"]


def test_it_is_rotated_kept_and_retired_while_serve_runs(live: Serve) -> None:
    made = live.answer("bootstrap")
    fields = {"label": "x", "host": "127.0.0.1", "port": 9, "auth": "plain", "for_broadcast": True}
    secrets = {"smtp_username": "u", "smtp_password": "p"}
    live.ask("connection.create", fields=fields, secrets=secrets, server=made["server_id"])
    (old,) = live.answer("key-file", "show")["data"]
    assert (old["state"], old["rows"]["connection_secrets"]) == ("active", 2)
    shown = key_bytes(live.data)

    done = live.answer("key-file", "rotate", "--keep-old")
    assert done["former"] == {old["key_id"]: "kept"}
    shown += key_bytes(live.data)
    assert postroom("key-file", "retire", done["key_id"], data=live.data).returncode == exits.REFUSED
    assert postroom("key-file", "retire", "12345678", data=live.data).returncode == exits.NOT_FOUND
    told = [
        postroom(*words, data=live.data)
        for words in (("key-file", "retire", old["key_id"]), ("key-file", "show"))
    ]
    assert [one.returncode for one in told] == [0, 0]
    assert f"{old['key_id']}  retired" in told[1].stdout
    text = "".join(one.stdout + one.stderr for one in told) + live.log.read_text()
    assert not [one for one in shown if one in text]
    # What `serve` has in memory is what lies there now.
    assert live.ask("connection.list", server=made["server_id"])["total"] == 1
    again = live.answer("key-file", "rotate")
    assert again["former"] == {done["key_id"]: "retired"}
    assert (again["sealed_anew"], again["went_on"]) == (sum(old["rows"].values()), False)
