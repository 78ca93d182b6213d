"""Finding messages among many: newest first, in slices, so that no look is long however many there are."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.message import DeliveryState
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage.interface import Sql, Work
from postroom.storage.messages import MESSAGE_COLUMNS, StoredMessage, message_of

SLICE = 2000


@dataclass(frozen=True)
class Wanted:
    """What is looked for; None and "" for anything.

    state: of any of its deliveries. recipient: the key of an address, or `@domain`. subject: a part of it.
    since_us: accepted then or later.
    """

    state: DeliveryState | None = None
    recipient: str = ""
    stream: str | None = None
    subject: str = ""
    since_us: int | None = None

    @property
    def anything(self) -> bool:
        """Whether every message fits."""
        return self == Wanted()


@dataclass(frozen=True)
class Slice:
    """What one look found. `last_looked`: the oldest message looked at; None: there is nothing older."""

    found: list[StoredMessage]
    last_looked: MessageId | None


def look(
    account_id: AccountId,
    server_id: ServerId | None,
    wanted: Wanted,
    limit: int,
    before: int | None,
) -> Work[Slice]:
    """The newest messages that fit among the next SLICE older than `before`."""
    params: dict[str, object] = {"account_id": account_id, "server_id": server_id, "before": before}
    params |= {"most": SLICE, "n": limit, "last": SLICE - 1}
    slice_of = "account_id = :account_id" + (" AND server_id = :server_id" if server_id else "")
    if before is not None:
        slice_of += " AND message_id < :before"
    fits = _fits(wanted, params)
    rows = yield Sql(
        f"SELECT {MESSAGE_COLUMNS} FROM (SELECT * FROM messages WHERE {slice_of}"  # noqa: S608
        f" ORDER BY message_id DESC LIMIT :most) AS m WHERE {fits} ORDER BY message_id DESC LIMIT :n",
        params,
    )
    found = [message_of(row) for row in rows]
    if len(found) == limit:
        return Slice(found, found[-1].message_id)
    rows = yield Sql(
        f"SELECT message_id, created_at FROM messages WHERE {slice_of}"  # noqa: S608
        " ORDER BY message_id DESC LIMIT 1 OFFSET :last",
        params,
    )
    # Ids grow with time, so what is older than the first too old one is too old as well.
    past = not rows or (wanted.since_us is not None and rows[0][1] < wanted.since_us)
    return Slice(found, None if past else rows[0][0])


def _fits(wanted: Wanted, params: dict[str, object]) -> str:
    """The condition on `m`; adds its values to `params`."""
    conditions = ["1 = 1"]
    if wanted.stream is not None:
        conditions.append("m.stream = :stream")
        params["stream"] = wanted.stream
    if wanted.since_us is not None:
        conditions.append("m.created_at >= :since")
        params["since"] = wanted.since_us
    if wanted.subject:
        conditions.append("LOWER(m.subject) LIKE LOWER(:subject) ESCAPE '!'")
        params["subject"] = f"%{_literally(wanted.subject)}%"
    if wanted.state is not None or wanted.recipient:
        state, recipient = "1 = 1", "1 = 1"
        if wanted.state is not None:
            state, params["state"] = "d.state = :state", wanted.state.value
        if wanted.recipient.startswith("@"):
            recipient = "d.address LIKE :recipient ESCAPE '!'"
            params["recipient"] = f"%{_literally(wanted.recipient)}"
        elif wanted.recipient:
            recipient, params["recipient"] = "d.address = :recipient", wanted.recipient
        conditions.append(
            "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = m.account_id"  # noqa: S608
            f" AND d.message_id = m.message_id AND {state} AND {recipient})"
        )
    return " AND ".join(conditions)


def _literally(text: str) -> str:
    """A part of a LIKE pattern that means itself."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
