"""Actions beside a running engine: the context they are called with, as `serve` would make it."""

from __future__ import annotations

from postroom.actions.context import Context, Hearer
from postroom.engine.everybody import Everybody
from postroom.keyring import KeyRing
from tests.support import stores
from tests.support.context import FakeProber
from tests.support.engine import Bench


class NobodyElse:
    """A wire to no other process. Implements engine.teller.Wire."""

    async def say(self, text: str) -> None:
        """Nobody hears it."""


def context(post: Bench) -> Context:
    """Of the engine that runs now; one key ring for each folder."""
    path = post.folder / "key"
    ring = KeyRing.load(path) if path.exists() else KeyRing.create(path)
    return Context(post.store, post.clock, ring, _hearer(post), FakeProber())


def _hearer(post: Bench) -> Hearer:
    """On PostgreSQL whoever waits for what is under way asks the database, in one process too."""
    if stores.url_of(post.folder) is None:
        return post.engine
    everybody = Everybody(post.engine, NobodyElse(), "bench", post.store, post.clock)
    post.at_end.append(everybody.close)
    return everybody
