"""What `serve` says once it runs: to people as lines, with --json as one document, by its supervisor too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from postroom.config import Settings
from postroom.serving.listeners import Listeners, shown, url_of


@dataclass(frozen=True)
class Ready:
    """What runs, once everything does. An address is None where this `serve` has not the role.

    made: the answer of bootstrap, with keys, at a first start. fresh: nobody has made an account yet.
    """

    url: str | None
    inbox: tuple[str, int] | None
    smtp: str | None
    smtps: str | None
    data: str
    public_url: str
    first_run: bool
    made: dict[str, object] | None = field(repr=False)
    fresh: bool = False
    notes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    children: tuple[int, ...] = ()
    operations: str | None = None

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "url": self.url,
            "public_url": self.public_url or None,
            "inbox": None if self.inbox is None else f"{self.inbox[0]}:{self.inbox[1]}",
            "smtp": self.smtp,
            "smtps": self.smtps,
            "operations": self.operations,
            "data": self.data,
            "pid": os.getpid(),
            "children": list(self.children),
            "roles": list(self.roles),
            "notes": list(self.notes),
            "bootstrap": self.made,
        }


def ready_on(
    settings: Settings,
    listeners: Listeners,
    *,
    first_run: bool,
    made: dict[str, object] | None,
    fresh: bool,
    children: Sequence[int] = (),
) -> Ready:
    """For a `serve` with these sockets."""
    http, smtp, smtps = (listeners.get(name) for name in ("http", "smtp", "smtps"))
    inbox, operations = listeners.get("inbox"), listeners.get("operations")
    return Ready(
        url=None if http is None else url_of(http),
        inbox=None if inbox is None else inbox.getsockname()[:2],
        smtp=None if smtp is None else shown(smtp),
        smtps=None if smtps is None else shown(smtps),
        data=str(settings.data),
        public_url=settings.public_url,
        first_run=first_run,
        made=made,
        fresh=fresh,
        notes=tuple(listeners.notes),
        roles=settings.roles,
        children=tuple(children),
        operations=None if operations is None else url_of(operations),
    )
