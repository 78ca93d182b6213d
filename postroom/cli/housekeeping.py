"""`postroom housekeeping`: delete what is past its time now, or say what that would be."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from postroom.cli.command import command
from postroom.cli.terminal import Terminal

# As people call them, in the order of `docs/delivery.md`.
_NAMES = {
    "contents": "contents of messages",
    "events": "events",
    "attempts": "attempts",
    "decisions": "routing decisions",
    "notices": "notices",
    "idempotency": "idempotency keys",
    "refused_senders": "refused senders",
    "lacks": "what peers cannot carry",
    "cap_hours": "counters of hours",
    "cap_days": "counters of days",
}


def add_housekeeping(root: typer.Typer) -> None:
    """`postroom housekeeping`."""

    @command(root, "housekeeping")
    def housekeeping(
        terminal: Terminal,
        dry_run: Annotated[bool, Option("--dry-run", help="Delete nothing; say what would go.")] = False,
    ) -> None:
        """Delete what is past its time now, by the keep_ settings. `serve` does so every hour by itself."""
        with terminal.working("Looking ..." if dry_run else "Clearing away ..."):
            done = terminal.call("housekeeping", dry_run=dry_run)

        def for_people() -> None:
            rows = [
                (name, past["rows"], past["size_bytes"], past["oldest_at"])
                for kind, name in _NAMES.items()
                if (past := done["kinds"][kind])["rows"]
            ]
            what = "would go" if dry_run else "went"
            terminal.table(
                ("what", what, "bytes", "oldest"), rows, f"Nothing is past its time; nothing {what}."
            )
            if rows and not dry_run:
                terminal.say("The room is used again for new mail; the file itself does not shrink.")

        terminal.show(done, for_people)
