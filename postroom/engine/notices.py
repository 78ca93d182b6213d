"""Notices to the operator: one when a trouble begins, one when it is over, and nothing in between.

Each is a log line, a count and a stored row (`postroom notices`). `engine.watch` says what it sees at each
look; what is new begins, what is gone ends. Open troubles are read back at start, so a restart tells nothing
twice. The log comes first: a full disk, which may keep the row from being stored, is still told of; the row
is tried again at every look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from postroom.clock import MICROS, Clock
from postroom.errors import PostroomError
from postroom.ids import AccountId
from postroom.logs import logger
from postroom.storage import notices as stored
from postroom.storage.interface import Store
from postroom.tally import Tally

log = logger("notices")
MOST_OPEN = 10_000
NOBODY = AccountId(0)  # the whole installation


class NoticeKind(StrEnum):
    """What there is to tell; docs/notices.md has one row each."""

    CONNECTION_FAILED = "connection_failed"
    CONNECTION_HELD = "connection_held"  # ten equal refusals
    QUEUE_AGES = "queue_ages"  # due mail of a server has waited for too long
    CAP_BINDS = "cap_binds"  # mail waits because a cap lets no more through
    DELIVERY_HELD = "delivery_held"  # waits for a person: it could not be composed
    DISK_LOW = "disk_low"
    CLOCK_STEPPED = "clock_stepped"


@dataclass(frozen=True)
class Trouble:
    """Something to tell. `text` is for people and holds no address and no secret.

    about: what it is about, one word or two; with the kind it names the trouble. lingers_s: how long it must
    not have been seen before it counts as over, for troubles that come and go.
    """

    kind: NoticeKind
    about: str
    text: str
    account_id: AccountId = NOBODY
    data: Mapping[str, object] = field(default_factory=dict)
    lingers_s: float = 0.0

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.kind.value, self.about


@dataclass
class _Open:
    account_id: AccountId
    began_at_us: int
    seen_s: float
    lingers_s: float
    notice_id: int | None = None  # None: not stored yet
    trouble: Trouble | None = None  # None: read back at start


class Notices:
    """Keeps what is open. Used by one task."""

    def __init__(self, store: Store, clock: Clock, tally: Tally) -> None:
        self._store, self._clock, self._tally = store, clock, tally
        self._open: dict[tuple[str, str], _Open] = {}

    async def load(self, lingers_s: float) -> None:
        """Take up what was open when the last process ended. Raises Unavailable.

        lingers_s: how long each may take to be seen again.
        """
        for one in await self._store.read(lambda: stored.newest(MOST_OPEN, only_open=True)):
            self._open[one.kind, one.about] = _Open(
                one.account_id, one.began_at_us, self._clock.steady_s(), lingers_s, one.notice_id
            )

    def leave(self) -> None:
        """Another process keeps them now."""
        self._open.clear()

    def counts(self) -> Counter[str]:
        """Open troubles by kind."""
        return Counter(kind for kind, _ in self._open)

    def is_open(self, kind: NoticeKind, about: str) -> bool:
        """Whether notice of it was given and it is not over."""
        return (kind.value, about) in self._open

    async def once(self, trouble: Trouble) -> None:
        """Tell of something that is over as it happens."""
        self._tell(trouble)
        at_us = self._clock.now_us()
        await self._store_it(trouble, at_us, at_us)

    async def observe(self, found: Sequence[Trouble], kinds: Collection[NoticeKind]) -> None:
        """What is seen of these kinds now, all of it; what was open and is not among it ends."""
        now_s = self._clock.steady_s()
        for trouble in found:
            known = self._open.get(trouble.name)
            if known is None:
                if len(self._open) >= MOST_OPEN:
                    continue
                self._tell(trouble)
                known = _Open(
                    trouble.account_id, self._clock.now_us(), now_s, trouble.lingers_s, trouble=trouble
                )
                self._open[trouble.name] = known
            known.seen_s, known.lingers_s = now_s, trouble.lingers_s
            if known.notice_id is None:
                known.notice_id = await self._store_it(trouble, known.began_at_us, None)
        seen = {trouble.name for trouble in found}
        for name, known in list(self._open.items()):
            if name[0] in kinds and name not in seen and now_s - known.seen_s >= known.lingers_s:
                await self._end(name, known)

    async def _end(self, name: tuple[str, str], known: _Open) -> None:
        at_us = self._clock.now_us()
        try:
            if known.notice_id is not None:
                notice_id = known.notice_id
                await self._store.write(lambda: stored.end(known.account_id, notice_id, at_us))
            elif known.trouble is not None and not await self._store_it(
                known.trouble, known.began_at_us, at_us
            ):
                return  # at the next look
        except PostroomError as error:
            log.debug("the end of a notice is not stored yet", error=str(error))
            return
        del self._open[name]
        lasted_s = round((at_us - known.began_at_us) / MICROS)
        log.info("notice: over", kind=name[0], about=name[1], lasted_s=lasted_s)

    def _tell(self, trouble: Trouble) -> None:
        self._tally.notices[trouble.kind.value] += 1
        log.warning("notice", kind=trouble.kind.value, about=trouble.about, text=trouble.text)

    async def _store_it(self, trouble: Trouble, began_at_us: int, ended_at_us: int | None) -> int | None:
        try:
            return await self._store.write(
                lambda: stored.add(
                    trouble.account_id,
                    trouble.kind.value,
                    trouble.about,
                    trouble.text,
                    trouble.data,
                    began_at_us,
                    ended_at_us,
                )
            )
        except PostroomError as error:
            log.debug("a notice is not stored yet", kind=trouble.kind.value, error=str(error))
            return None
