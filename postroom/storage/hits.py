"""Opens of messages and clicks on their links, as counted for each delivery and each of its links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.ids import AccountId, DeliveryId, MessageId, ServerId
from postroom.storage.interface import Sql, Work

_WHOSE = """
SELECT d.delivery_id, d.account_id, d.server_id, d.message_id
FROM deliveries d
JOIN servers v ON v.account_id = d.account_id AND v.server_id = d.server_id AND v.deleted_at IS NULL
WHERE d.delivery_id = :delivery_id
"""
_COUNT = """
INSERT INTO hits (account_id, delivery_id, link, server_id, first_at, last_at, people, machines,
                  person_at, user_agent, in_text)
VALUES (:account_id, :delivery_id, :link, :server_id, :at, :at, :people, :machines,
        :person_at, :user_agent, :in_text)
ON CONFLICT (account_id, delivery_id, link)
DO UPDATE SET last_at = excluded.last_at, people = hits.people + excluded.people,
              machines = hits.machines + excluded.machines,
              user_agent = CASE WHEN hits.person_at IS NULL THEN excluded.user_agent ELSE hits.user_agent END,
              in_text = CASE WHEN hits.person_at IS NULL THEN excluded.in_text ELSE hits.in_text END,
              person_at = COALESCE(hits.person_at, excluded.person_at)
RETURNING people, machines
"""


@dataclass(frozen=True)
class Whose:
    """Of whom a delivery is; its server is still there."""

    account_id: AccountId
    server_id: ServerId
    message_id: MessageId


@dataclass(frozen=True)
class Person:
    """The first hit of a person among these. in_text: the link stood in the text part."""

    at_us: int
    user_agent: str
    in_text: bool


@dataclass(frozen=True)
class Count:
    """So many hits more. link: 0 for the pixel, else the number of a target and one."""

    account_id: AccountId
    server_id: ServerId
    delivery_id: DeliveryId
    link: int
    at_us: int
    people: int
    machines: int
    person: Person | None = None


def whose(deliveries: Sequence[DeliveryId]) -> Work[dict[DeliveryId, Whose]]:
    """By the numbers in tokens of ours, which know no account; one that is gone is left out."""
    rows = yield Sql(_WHOSE, [{"delivery_id": one} for one in deliveries])
    return {row[0]: Whose(*row[1:]) for row in rows}


def add(count: Count) -> Work[tuple[int, int]]:
    """Returns how many there are now: by people, and by machines."""
    person = count.person
    rows = yield Sql(
        _COUNT,
        {
            "person_at": None if person is None else person.at_us,
            "user_agent": "" if person is None else person.user_agent,
            "in_text": int(person is not None and person.in_text),
            "account_id": count.account_id,
            "server_id": count.server_id,
            "delivery_id": count.delivery_id,
            "link": count.link,
            "at": count.at_us,
            "people": count.people,
            "machines": count.machines,
        },
    )
    return rows[0][0], rows[0][1]
