"""`postroom audit`: who changed what, and what Postroom decided by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from typer import Option

from postroom.cli.command import command, group
from postroom.cli.terminal import Terminal, command_name, written

app = group("audit", "The audit trail: who changed what, from where, and what was decided by itself.")

_FULL_CHARACTERS = 100  # of a change in the table; `--json` has all of it


@command(app, "list")
def list_lines(
    terminal: Terminal,
    account: Annotated[
        int | None, Option("--account", metavar="ID", help="Only this account's; 0: the installation's.")
    ] = None,
    target: Annotated[
        str | None, Option("--target", metavar="THING", help="Only about this, such as `connection 7`.")
    ] = None,
    actor: Annotated[
        str | None, Option("--actor", metavar="WHO", help="`key 12`, `command line`, `engine`, ….")
    ] = None,
    source: Annotated[
        str | None, Option("--source", metavar="WHERE", help="Only from this address, such as 192.0.2.7.")
    ] = None,
    action: Annotated[
        str | None,
        Option("--action", metavar="WHAT", help="`connection.update`, or `connection.` for all of them."),
    ] = None,
    since: Annotated[
        str | None, Option("--since", metavar="WHEN", help="2h, 3d, a date or a time (UTC).")
    ] = None,
    until: Annotated[
        str | None, Option("--until", metavar="WHEN", help="The same; what came later is left out.")
    ] = None,
    limit: Annotated[int, Option("--limit", min=1, max=500, help="Most of them to show.")] = 50,
    before: Annotated[int | None, Option("--before", metavar="ID", help="Only older ones than this.")] = None,
) -> None:
    """List lines of the audit trail, newest first."""
    found = terminal.call(
        "audit.list",
        account=account,
        target=target,
        actor=actor,
        source=source,
        action=action,
        since=since,
        until=until,
        limit=limit,
        before=before,
    )

    def for_people() -> None:
        terminal.table(
            ("id", "when", "who", "from", "what", "of", "change"),
            (
                (
                    one["audit_id"],
                    one["at"],
                    one["actor"],
                    one["source"],
                    one["action"],
                    one["target"],
                    change(one["detail"]),
                )
                for one in found["data"]
            ),
            "Nothing of the kind was written.",
        )
        if found["next"] is not None:
            terminal.say(f"There are older ones: {command_name()} audit list --before {found['next']}")

    terminal.show(found, for_people)


def change(detail: Mapping[str, Any]) -> str:
    """A line's detail as one text: `hourly_cap: 100 -> 200`."""
    text = ", ".join(_told(detail))
    return text if len(text) <= _FULL_CHARACTERS else text[: _FULL_CHARACTERS - 1] + "…"


def _told(detail: Mapping[str, Any]) -> Iterator[str]:
    before, after = detail.get("before"), detail.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from (f"{name}: {written(before.get(name))} -> {written(new)}" for name, new in after.items())
    else:
        for side in (before, after):
            if isinstance(side, Mapping):
                yield from (f"{name}: {written(value)}" for name, value in side.items() if value != {})
    for name, value in detail.items():
        if name not in ("before", "after") and value not in (None, "", [], {}):
            yield f"{name}: {written(value)}"
