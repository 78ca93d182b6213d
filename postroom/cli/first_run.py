"""What the first start shows: the keys, once, and three requests that send a mail when pasted elsewhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

RECIPIENT = "you@example.com"


def curl_lines(url: str, key: str, inbox_host: str, inbox_port: int) -> list[str]:
    """Make a connection to the inbox, test it, send a message: Broadcast's API, one shell line each.

    On a fresh data folder the first connection is number 1.
    """
    connection = {
        "email_server": {
            "label": "Test inbox",
            "smtp_address": inbox_host,
            "smtp_port": inbox_port,
            "smtp_username": "inbox",
            "smtp_password": "inbox",
            "smtp_authentication": "plain",
            "emails_per_hour": 1000,
            "use_for_broadcasts": True,
            "use_for_sequences": True,
            "use_for_transactionals": True,
        }
    }
    message = {"to": RECIPIENT, "subject": "Hello", "body": "It works."}
    return [
        _curl(f"{url}/api/v1/email_servers", key, connection),
        _curl(f"{url}/api/v1/email_servers/1/test_connection", key, None),
        _curl(f"{url}/api/v1/transactionals.json", key, message),
    ]


def _curl(url: str, key: str, body: Mapping[str, object] | None) -> str:
    words = ["curl", "-X", "POST", url, "-H", f"Authorization: Bearer {key}"]
    if body is not None:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return shlex.join(words)


def fresh_lines(made: Mapping[str, Any], curls: list[str], inbox: str, command: str, data: str) -> list[str]:
    """The whole text of a first start, after the addresses."""
    lines = [
        "",
        f"Account {made['account_id']} and server {made['server_id']} were made. Their keys, shown once:",
        "",
        f"  account key  {made['account_key']}",
        f"  server key   {made['server_key']}",
        "",
    ]
    if not curls:
        return lines
    return [
        *lines,
        f"Three lines for another terminal: connect to the test inbox ({inbox}), test it, send a message.",
        "",
        *curls,
        "",
        "Then look at the mail:",
        "",
        f"  {command} inbox list{data}",
        f"  {command} inbox show{data}",
        "",
    ]


def again_lines(command: str, data: str) -> list[str]:
    """What a later start says of keys."""
    return [
        "",
        "The keys were shown at the first start and are not kept. For a new one:",
        "",
        f"  {command} key create --label NAME --server 1{data}",
        "",
    ]
