"""Operations on the installation as a whole: bootstrap, settings in force, health."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from postroom.actions import accounts, connections, identities, keys, pauses, servers
from postroom.actions.servers import NameTaken, ServerChanges, ServerRules
from postroom.clock import MICROS
from postroom.control.connections import shown_connection
from postroom.control.desk import DEFAULT, Desk
from postroom.control.queue import shown_pause
from postroom.control.seeing import shown_notice
from postroom.core.connection import Connection
from postroom.core.message import Purpose
from postroom.core.server import Account, Owner, Server
from postroom.errors import Invalid
from postroom.ids import ServerId
from postroom.mail.address import parse_address, parse_mailbox
from postroom.storage import identities as stored_identities
from postroom.storage import lanes
from postroom.storage import notices as stored_notices
from postroom.storage.interface import Work

KEY_LABEL = "bootstrap"
_LOCAL_PART = "postroom"
_NO_DOMAIN = "localhost.localdomain"
_MOST_ACCOUNTS = 1000
_MOST_EACH = 500
_MOST_TOLD = 20


async def bootstrap(desk: Desk, *, sender: str | None = None) -> dict[str, object]:
    """Make the account and the server called default where they are absent, and add a key to each.

    sender: becomes the server's default sender and is trusted for the account; without it a new server
    gets `postroom@` this host's full name. May run again: what is there stays, older keys stay valid.
    """
    if sender is not None:
        parse_mailbox(sender, "sender")
    async with desk.bootstrapping:  # two at once would make two of each
        account = await _default_account(desk)
        server = await _default_server(desk, account, sender)
        owner = Owner(account.account_id)
        actor = desk.actor
        _, account_key = await keys.create_key(desk.ctx, actor, owner, KEY_LABEL, ["all"])
        of_server = Owner(account.account_id, server.server_id)
        _, server_key = await keys.create_key(desk.ctx, actor, of_server, KEY_LABEL, ["all"])
    return {
        "account_id": account.account_id,
        "server_id": server.server_id,
        "account_key": account_key.reveal(),
        "server_key": server_key.reveal(),
    }


async def is_fresh(desk: Desk) -> bool:
    """Whether nobody has made an account here yet."""
    return not await accounts.list_accounts(desk.ctx, limit=1)


async def housekeeping(desk: Desk, *, dry_run: bool = False) -> dict[str, object]:
    """Delete what is past its time, as happens every hour by itself; with dry_run only say what that is."""
    cleared = await desk.housekeeping.run_once(dry=dry_run, actor=desk.actor)
    return {"dry_run": dry_run, "kinds": cleared.to_json()}


async def config(desk: Desk) -> dict[str, object]:
    """Every setting in force in this process: name, value, default, unit, meaning, source."""
    return {"settings": [dict(one) for one in desk.settings]}


async def health(desk: Desk) -> dict[str, object]:
    """What `doctor` wants to know from inside: the database, failed connections, pauses, unproven senders."""
    failed: list[dict[str, object]] = []
    bulk = False
    senders: list[dict[str, object]] = []
    ways: list[dict[str, object]] = []
    waiting = await _waiting(desk)
    for account in await accounts.list_accounts(desk.ctx, limit=_MOST_ACCOUNTS):
        whole = Owner(account.account_id, whole_account=True)
        found, _ = await connections.list_connections(desk.ctx, whole, limit=_MOST_EACH)
        failed += [shown_connection(one) for one in found if one.failed_at_us is not None]
        bulk = bulk or any(_sends_bulk_to_others(one) for one in found)
        known, _ = await servers.list_servers(desk.ctx, whole, limit=_MOST_EACH)
        senders += [await _sender_of(desk, one) for one in known]
        ways += [_ways_out(one, found, waiting.get(one.server_id, frozenset())) for one in known]
    troubles = await desk.ctx.store.read(lambda: stored_notices.newest(_MOST_TOLD, only_open=True))
    return {
        "pid": os.getpid(),
        "listening": dict(desk.listening),
        "database": await _database(desk),
        "failed_connections": failed,
        "bulk_mail_to_others": bulk,
        "public_url": next((one["value"] for one in desk.settings if one["name"] == "public_url"), ""),
        "pauses": [shown_pause(one) for one in await pauses.list_pauses(desk.ctx)],
        "default_senders": senders,
        "ways_out": ways,
        "troubles": [shown_notice(one) for one in troubles],
    }


async def _database(desk: Desk) -> dict[str, object]:
    """What it says of itself; and how far its clock is from this machine's, where it has one of its own."""
    before_us = time.time_ns() // 1000
    facts = dict(await desk.database())
    at_us = facts.pop("at_us", None)
    if isinstance(at_us, int):
        middle_us = (before_us + time.time_ns() // 1000) // 2
        facts["ahead_s"] = round((at_us - middle_us) / MICROS, 3)
    return facts


async def _waiting(desk: Desk) -> dict[ServerId, frozenset[Purpose]]:
    """For which purposes mail waits, by server."""
    found: dict[ServerId, frozenset[Purpose]] = {}
    for lane, _ in await desk.ctx.store.read(lanes.with_mail):
        found[lane.server_id] = found.get(lane.server_id, frozenset()) | {lane.purpose}
    return found


def _ways_out(server: Server, known: Sequence[Connection], waiting: frozenset[Purpose]) -> dict[str, object]:
    """How many connections a server has, how many are on, and the purposes that wait with none on."""
    mine = [one for one in known if one.server_id in (None, server.server_id)]
    on = [one for one in mine if one.active and one.disabled_at_us is None]
    carried = {purpose for one in on for purpose in one.purposes}
    return {
        "server_id": server.server_id,
        "name": server.name,
        "sandbox": server.sandbox,
        "connections": len(mine),
        "on": len(on),
        "waits": sorted(waiting - carried),
    }


def _sends_bulk_to_others(connection: Connection) -> bool:
    """Whether links in mail through it are read on other machines than this one."""
    bulk = connection.purposes & {Purpose.BROADCAST, Purpose.SEQUENCE}
    return bool(bulk) and connection.enabled and connection.host not in ("localhost", "127.0.0.1", "::1")


async def _sender_of(desk: Desk, server: Server) -> dict[str, object]:
    proven = False
    if server.default_sender:
        key = parse_address(parse_mailbox(server.default_sender, "sender").address, "sender").key

        def work() -> Work[bool]:
            return (yield from stored_identities.proven(server.account_id, server.server_id, key))

        proven = await desk.ctx.store.read(work)
    return {
        "account_id": server.account_id,
        "server_id": server.server_id,
        "name": server.name,
        "default_sender": server.default_sender,
        "proven": proven,
    }


async def _default_account(desk: Desk) -> Account:
    return await accounts.create_account(desk.ctx, desk.actor, DEFAULT, once=True)


async def _default_server(desk: Desk, account: Account, sender: str | None) -> Server:
    owner, actor = Owner(account.account_id), desk.actor
    known, _ = await servers.list_servers(desk.ctx, owner, limit=_MOST_EACH)
    server = next((one for one in known if one.name == DEFAULT), None)
    if sender is None and server is not None and server.default_sender:
        return server
    chosen = sender or await _host_sender(desk)
    # Trusted first: a server never stands there with a default sender that nobody vouched for.
    address = parse_mailbox(chosen, "sender").address
    await identities.trust(desk.ctx, actor, address, account.account_id)
    if server is None:
        try:
            return await servers.create_server(
                desk.ctx,
                actor,
                account.account_id,
                DEFAULT,
                default_sender=chosen,
                rules=ServerRules(unique_name=all(one.name.lower() != DEFAULT for one in known)),
            )
        except NameTaken:  # by another process, which bootstraps as well
            return await _default_server(desk, account, sender)
    if server.default_sender == chosen:
        return server
    changes = ServerChanges(default_sender=chosen)
    return await servers.update_server(desk.ctx, actor, owner, server.server_id, changes)


async def _host_sender(desk: Desk) -> str:
    """`postroom@` this host's full name, where that can be the domain of an address."""
    name = await asyncio.to_thread(desk.full_host_name)
    if "." not in name:
        return f"{_LOCAL_PART}@{_NO_DOMAIN}"
    try:
        return parse_address(f"{_LOCAL_PART}@{name}", "sender").text
    except Invalid:
        return f"{_LOCAL_PART}@{_NO_DOMAIN}"
