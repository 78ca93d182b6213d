"""Every operation and the audit trail: what changes something writes its line, what does not writes none.

The tables below name every operation there is; a new one fails here until it says which kind it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from postroom.control.desk import Desk
from postroom.control.operations import TABLE, run
from postroom.errors import Conflict, Invalid, NotFound, PostroomError, Unavailable
from postroom.storage.interface import Sql, Work
from postroom.transports.interface import Outcome
from tests.support.context import PASSED, REFUSED_LOGIN, Harness
from tests.support.trail import CANARIES, MORE_CANARIES, Trail, lines, secrets_in

SMTP: dict[str, object] = {
    "label": "Relay",
    "host": "mail.example.com",
    "port": 587,
    "auth": "plain",
    "for_transactional": True,
}
SOMEBODY = "user ann (uid 1000)"


@dataclass(frozen=True)
class Step:
    """One run: its arguments, the actions it must write in this order, or the error it must end in."""

    args: Mapping[str, object]
    writes: Sequence[str] = ()
    error: type[PostroomError] | None = None
    outcome: Outcome | None = None  # what the peer says when it is tried


@dataclass(frozen=True)
class Case:
    """Runs of one operation one after another, on a desk that `before` made ready."""

    steps: Sequence[Step]
    before: Sequence[tuple[str, Mapping[str, object]]] = field(default=())


def once(args: Mapping[str, object], *writes: str, then: type[PostroomError] | None = None) -> Case:
    """It changes something; the same again does not."""
    return Case([Step(args, writes), Step(args, error=then)])


def each(args: Mapping[str, object], *writes: str) -> Case:
    """It makes one more each time."""
    return Case([Step(args, writes), Step(args, writes)])


RENAMED: Mapping[str, object] = {"name": "shop", "default_sender": "shop@example.com"}
CAPPED: Mapping[str, object] = {"fields": {"hourly_cap": 50}, "secrets": MORE_CANARIES}
ROTATED: Mapping[str, object] = {name: f"{value}-2" for name, value in CANARIES.items()}
FORMER = "the key that sealed before"  # stands for its id
PEOPLE: Mapping[str, object] = {"addresses": ["a@example.net", "b@example.net"]}
SIGNED: Mapping[str, object] = {"domain": "example.net"}
TRUSTED = ("identity.trust", {"value": "example.net"})
TWO_KEYS = tuple(("dkim.make", {**SIGNED, "algorithm": "ed25519", "selector": one}) for one in "ab")
CHANGES: Mapping[str, Case] = {
    "housekeeping": Case(
        [Step({"dry_run": True}), Step({}, ["retention.clear"]), Step({}), Step({"dry_run": True})]
    ),
    "account.create": each({"name": "Ada"}, "account.create"),
    "account.update": Case(
        [
            Step({"account": 1, "max_servers": 5, "may_delete_servers": False}, ["account.update"]),
            Step({"account": 1, "max_servers": "5", "may_delete_servers": False}),
            Step({"account": 1, "max_servers": "", "name": "Ada"}, ["account.update"]),
            Step({"account": 1}),
            Step({"account": 1, "max_servers": "-1"}, error=Invalid),
            Step({"account": 1, "max_servers": "many"}, error=Invalid),
            Step({"account": 99, "name": "x"}, error=NotFound),
        ]
    ),
    "server.create": each(
        {"name": "two", "default_sender": "two@example.com"}, "server.create", "identity.trust"
    ),
    "server.update": Case(
        [
            Step({"server": 1, **RENAMED}, ["server.update", "identity.trust"]),
            Step({"server": 1, **RENAMED, "sandbox": False}),
            Step({"server": 1}),
            Step({"server": 1, "name": " "}, error=Invalid),
        ]
    ),
    "server.delete": once({"server": 1}, "server.delete", then=NotFound),
    "key.create": each({"label": "app"}, "key.create"),
    "key.revoke": once({"key_id": 1}, "key.revoke", then=NotFound),
    "identity.trust": once({"value": "example.net"}, "identity.trust"),
    "identity.forget": once({"identity_id": 1}, "identity.forget", then=NotFound),
    "dkim.make": Case(each({**SIGNED, "algorithm": "ed25519"}, "dkim.make").steps, before=[TRUSTED]),
    "dkim.activate": Case(
        [
            Step({**SIGNED, "selector": "a", "unchecked": True}, ["dkim.activate"]),
            Step({**SIGNED, "selector": "a", "unchecked": True}),
            Step({**SIGNED, "selector": "b"}, error=Unavailable),  # nobody is there to ask DNS
            Step({**SIGNED, "selector": "b", "unchecked": True}, ["dkim.stop", "dkim.activate"]),
        ],
        before=[TRUSTED, *TWO_KEYS],
    ),
    "dkim.stop": Case(
        [Step({**SIGNED, "selector": "a"}, ["dkim.stop"]), Step({**SIGNED, "selector": "a"}, error=Conflict)],
        before=[TRUSTED, *TWO_KEYS, ("dkim.activate", {**SIGNED, "selector": "a", "unchecked": True})],
    ),
    "dkim.retire": Case(
        once({**SIGNED, "selector": "a"}, "dkim.retire", then=NotFound).steps, before=[TRUSTED, *TWO_KEYS]
    ),
    "connection.create": each({"fields": SMTP, "secrets": MORE_CANARIES, "server": 1}, "connection.create"),
    "connection.update": Case(
        [
            Step({"connection": 1, **CAPPED}, ["connection.update"]),
            Step({"connection": 1, **CAPPED}),
            Step({"connection": 1, "fields": {}}),
            Step({"connection": 1, "fields": {"port": 0}, "secrets": CANARIES}, error=Invalid),
        ]
    ),
    "connection.delete": once({"connection": 1}, "connection.delete", then=NotFound),
    "connection.test": Case(
        [
            Step({"connection": 1}, outcome=PASSED),
            Step({"connection": 1}, ["connection.test"], outcome=REFUSED_LOGIN),
            Step({"connection": 1}, ["connection.test"], outcome=PASSED),
            Step({"connection": 1}, outcome=PASSED),
        ]
    ),
    "connection.rotate": Case(
        [
            Step({"connection": 1, "secrets": ROTATED}, outcome=REFUSED_LOGIN),
            Step({"connection": 1, "secrets": ROTATED}, ["connection.rotate"], outcome=PASSED),
            Step({"connection": 1, "secrets": ROTATED}, error=Invalid),
            Step({"connection": 1, "secrets": CANARIES}, error=Conflict),
        ]
    ),
    "connection.rotate_back": Case(
        [
            Step({"connection": 1}, ["connection.rotate_back"]),
            Step({"connection": 1}, ["connection.rotate_back"]),
        ],
        before=[("connection.rotate", {"connection": 1, "secrets": ROTATED})],
    ),
    "connection.rotate_finish": Case(
        once({"connection": 1}, "connection.rotate_finish", then=Conflict).steps,
        before=[("connection.rotate", {"connection": 1, "secrets": ROTATED})],
    ),
    "connection.reset_window": once({"connection": 1}, "connection.reset_window"),
    "queue.pause": once({"everything": True, "reason": "later"}, "queue.pause"),
    "queue.resume": Case(
        once({"connection": 1}, "queue.resume").steps, before=[("queue.pause", {"connection": 1})]
    ),
    "message.cancel": once({"message": "1"}, "message.cancel"),
    "message.release": once({"message": "1"}, "message.release"),
    "message.retry": Case(
        [Step({"message": "2"}, ["message.retry"]), Step({"message": "3"}, error=Conflict)]
    ),
    "message.resend": Case(
        [Step({"message": "3"}, ["message.resend"]), Step({"message": "1"}, error=Conflict)]
    ),
    "message.settle": Case(
        [
            Step({"message": "3", "word": "sent"}, ["message.settle"]),
            Step({"message": "3", "word": "sent"}, error=Conflict),
        ]
    ),
    "key_file.rotate": each({}, "key_file.rotate"),
    "key_file.retire": Case(
        [
            Step({"key_id": FORMER}, ["key_file.retire"]),
            Step({"key_id": FORMER}),
            Step({"key_id": "nothing"}, error=NotFound),
        ],
        before=[("key_file.rotate", {"keep_old": True})],
    ),
    "suppression.add": once(PEOPLE, "suppression.add"),
    "suppression.remove": Case(
        once(PEOPLE, "suppression.remove").steps, before=[("suppression.add", PEOPLE)]
    ),
    "bootstrap": each({}, "key.create", "key.create"),
}  # fmt: skip

# A message has its own history: events, attempts, what `explain` tells. The trail is about settings.
MESSAGES: Mapping[str, Mapping[str, object]] = {"message.send": {"to": ["x@example.net"], "text": "hello"}}

READS: Mapping[str, Mapping[str, object]] = {
    "account.list": {},
    "account.show": {},
    "server.list": {},
    "server.show": {},
    "key.list": {},
    "identity.list": {},
    "dkim.list": SIGNED,
    "dkim.check": SIGNED,
    "connection.list": {},
    "connection.show": {"connection": 1},
    "queue.show": {},
    "message.list": {},
    "message.show": {"message": "1"},
    "suppression.check": {"address": "a@example.net"},
    "suppression.list": {},
    "audit.list": {"since": "1d"},
    "explain": {"message": "1"},
    "key_file.show": {},
    "config": {},
    "health": {},
    "status": {},
    "notices": {},
}


@pytest.fixture
async def ready(desk: Desk) -> Desk:
    """One of everything: an account, a server, two keys, a connection that has sent; mail that was captured,
    that bounced, and of which nobody knows."""
    await run(desk, "bootstrap", {})
    for _ in range(3):
        await run(desk, "message.send", {"to": ["a@example.net"], "text": "hello"})
    await run(desk, "connection.create", {"fields": SMTP, "secrets": CANARIES, "server": 1})

    def sent() -> Work[None]:
        yield Sql("UPDATE deliveries SET state = 'bounced' WHERE message_id = 2")
        yield Sql("UPDATE deliveries SET state = 'unverified' WHERE message_id = 3")
        yield Sql("INSERT INTO cap (account_id, connection_id, held) VALUES (1, 1, 3)")
        yield Sql(
            "INSERT INTO cap_release (account_id, connection_id, due, n) VALUES (1, 1, 9999999999999990, 3)"
        )

    await desk.ctx.store.write(sent)
    return desk


def test_every_operation_is_of_one_kind() -> None:
    named = [*CHANGES, *MESSAGES, *READS]
    assert sorted(named) == sorted(TABLE)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_writes_its_line_and_no_change_writes_none(
    ready: Desk, harness: Harness, name: str
) -> None:
    case, trail = CHANGES[name], Trail(ready.ctx)
    former = ready.ctx.ring.active_id
    keys: list[str] = []
    for operation, args in case.before:
        await run(ready, operation, args)
    await trail.new()
    for step in case.steps:
        harness.clock.advance(60)
        if step.outcome is not None:
            harness.prober.outcome = step.outcome
        args = {one: former if value == FORMER else value for one, value in step.args.items()}
        if step.error is None:
            answer: Any = await run(ready, name, args, SOMEBODY)
            keys += [str(answer[one]) for one in ("key", "account_key", "server_key") if one in answer]
        else:
            with pytest.raises(step.error):
                await run(ready, name, args, SOMEBODY)
        written = await trail.new()
        assert [one.action for one in written] == list(step.writes), step.args
        for one in written:
            assert (one.actor, one.source, one.at_us) == (
                "command line",
                SOMEBODY,
                harness.clock.now_us(),
            )
            assert one.target
    assert await secrets_in(ready.ctx, *keys) == []


@pytest.mark.parametrize("name", [*READS, *MESSAGES])
async def test_what_changes_no_setting_writes_nothing(ready: Desk, name: str) -> None:
    before = await lines(ready.ctx)
    try:
        await run(ready, name, {**READS, **MESSAGES}[name], SOMEBODY)
    except Unavailable:
        assert name in ("status", "queue.show")  # of `serve`, which does not run here
    assert await lines(ready.ctx) == before


async def test_a_line_tells_what_changed(ready: Desk) -> None:
    trail = Trail(ready.ctx)
    await trail.new()
    fields = {"hourly_cap": 50, "label": "New"}
    secrets = {"smtp_password": "canary-other"}
    await run(ready, "connection.update", {"connection": 1, "fields": fields, "secrets": secrets})
    (line,) = await trail.new()
    assert line.detail == {
        "before": {"hourly_cap": None, "label": "Relay", "smtp_password": "***"},
        "after": {"hourly_cap": 50, "label": "New", "smtp_password": "***"},
    }


async def test_the_list_in_pages_and_by_what_is_asked(ready: Desk, harness: Harness) -> None:
    async def ask(**args: object) -> Any:
        return await run(ready, "audit.list", args)

    everything = (await ask())["data"]
    assert everything[0]["action"] == "capture.end"
    assert {one["action"].split(".")[0] for one in everything} >= {"account", "server", "key", "connection"}
    paged: list[object] = []
    page: dict[str, Any] = {"next": None}
    while not paged or page["next"] is not None:
        page = await ask(limit=2, before=page["next"])
        paged += page["data"]
    assert paged == everything
    harness.clock.advance(3600)
    await run(ready, "account.create", {"name": "Ada"}, SOMEBODY)
    assert [one["action"] for one in (await ask(since="30m"))["data"]] == ["account.create"]
    assert len((await ask(until="30m"))["data"]) == len(everything)
    assert [one["target"] for one in (await ask(source=SOMEBODY))["data"]] == ["account 2"]
    assert [one["target"] for one in (await ask(account=2))["data"]] == ["account 2"]
    assert (await ask(account=77))["data"] == []
    keys = (await ask(action="key."))["data"]
    assert [one["action"] for one in keys] == ["key.create", "key.create"]
    assert (await ask(action="key"))["data"] == []
    assert [one["detail"]["after"]["label"] for one in (await ask(target="key 1"))["data"]] == ["bootstrap"]
    assert (await ask(actor="engine"))["data"] == []


@pytest.mark.parametrize("when", ["soon", "", "2024-13-01", "99999999999d", "-1h"])
async def test_a_time_nobody_understands_is_refused(ready: Desk, when: str) -> None:
    with pytest.raises(Invalid, match="since must be"):
        await run(ready, "audit.list", {"since": when})
