"""What processes on one database tell each other: what changed, as small JSON texts.

Whoever hears one looks at the database again, so it says where to look and never what is there. Where there
is too much to be said it becomes "everything": look at all. What is to be stopped is never left out.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from postroom.ids import AccountId, AttemptId, ConnectionId, LaneId

MOST_BYTES = 7900  # of a text; PostgreSQL's NOTIFY takes less than 8000
_MOST_ATTEMPTS = 200  # in one text


@dataclass
class News:
    """What changed. lanes: so many deliveries became ready. accounts: facts of routing; 0: of everybody.
    stopped, returned: open attempts that are to be cancelled, or given back unless they are on their way;
    overtaken: that are not needed any more.
    """

    lanes: Counter[LaneId] = field(default_factory=Counter)
    connections: set[ConnectionId] = field(default_factory=set)
    rooms: set[ConnectionId] = field(default_factory=set)
    accounts: set[AccountId] = field(default_factory=set)
    stopped: set[AttemptId] = field(default_factory=set)
    returned: set[AttemptId] = field(default_factory=set)
    overtaken: set[AttemptId] = field(default_factory=set)
    pauses: bool = False
    key_file: bool = False
    everything: bool = False

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def add(self, more: News) -> None:
        """Both."""
        self.lanes += more.lanes
        self.connections |= more.connections
        self.rooms |= more.rooms
        self.accounts |= more.accounts
        self.stopped |= more.stopped
        self.returned |= more.returned
        self.overtaken |= more.overtaken
        self.pauses |= more.pauses
        self.key_file |= more.key_file
        self.everything |= more.everything

    def take_text(self, by: str) -> str:
        """As much of it as one text holds, taken out; to be called until nothing is left.

        by: the name of the process that tells it.
        """
        told: dict[str, object] = {"by": by}
        told |= {name: _some(getattr(self, name)) for name in ("stopped", "returned", "overtaken")}
        if self.lanes or self.connections or self.rooms or self.accounts:
            told |= {
                "lanes": list(self.lanes.items()),
                "connections": sorted(self.connections),
                "rooms": sorted(self.rooms),
                "accounts": sorted(self.accounts),
            }
        told |= {"pauses": self.pauses, "key_file": self.key_file, "everything": self.everything}
        text = _text(told)
        if len(text) > MOST_BYTES:
            for name in ("lanes", "connections", "rooms", "accounts"):
                del told[name]
            text = _text(told | {"everything": True})
        left = News(stopped=self.stopped, returned=self.returned, overtaken=self.overtaken)
        vars(self).update(vars(left))
        return text


def _some(attempts: set[AttemptId]) -> list[AttemptId]:
    taken = sorted(attempts)[:_MOST_ATTEMPTS]
    attempts.difference_update(taken)
    return taken


def _text(told: dict[str, object]) -> str:
    return json.dumps({name: value for name, value in told.items() if value}, separators=(",", ":"))


def read(text: str) -> tuple[str, News]:
    """Who tells it, and what. What cannot be read, or is of another version, says: look at everything."""
    try:
        told = json.loads(text)
        return str(told.get("by", "")), News(
            lanes=Counter({LaneId(int(lane)): int(count) for lane, count in told.get("lanes", ())}),
            connections={ConnectionId(int(one)) for one in told.get("connections", ())},
            rooms={ConnectionId(int(one)) for one in told.get("rooms", ())},
            accounts={AccountId(int(one)) for one in told.get("accounts", ())},
            stopped={AttemptId(int(one)) for one in told.get("stopped", ())},
            returned={AttemptId(int(one)) for one in told.get("returned", ())},
            overtaken={AttemptId(int(one)) for one in told.get("overtaken", ())},
            pauses=bool(told.get("pauses")),
            key_file=bool(told.get("key_file")),
            everything=bool(told.get("everything")),
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return "", News(everything=True)
