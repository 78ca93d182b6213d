"""`postroom top` and `postroom status`: what `serve` is doing at this moment, live or once.

Both draw the one document that `status --json` prints. On a terminal it fills the screen and is drawn anew
every so often; into a pipe it is printed once, as plain columns.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from postroom.cli.command import command
from postroom.cli.exits import OK
from postroom.cli.reach import must_serve
from postroom.cli.terminal import Terminal, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = Mapping[str, Any]  # Any: JSON values, as `postroom.serving.seeing` makes them
ELSEWHERE = "elsewhere"  # the state that `control.seeing` gives it
_FIXED_LINES = 17  # all but the rows of connections and lanes
_LEAST_ROWS = 3
_WIDEST = 100
_ROWS_OF_PIPES = 50


def add_top(root: typer.Typer) -> None:
    """`postroom top` and `postroom status`."""

    @command(root, "status")
    def status(terminal: Terminal) -> int:
        """What the running `serve` is doing now: rates, queue, lanes, connections, room; --json has all."""
        found = ask(terminal)
        terminal.show(found, lambda: print_found(terminal, found))
        return OK

    @command(root, "top")
    def top(
        terminal: Terminal,
        interval: Annotated[
            float, Option("--interval", help="Seconds between two looks.", min=0.2, max=3600)
        ] = 1.0,
        once: Annotated[bool, Option("--once", help="Print it once and end, as `status` does.")] = False,
    ) -> int:
        """A live view of rates, queue, connections and lanes of the running `serve`; q or Ctrl-C ends it."""
        found = ask(terminal)
        if once or terminal.as_json or found["state"] == ELSEWHERE or not sys.stdout.isatty():
            terminal.show(found, lambda: print_found(terminal, found))
            return OK
        live(terminal, found, interval)
        return OK


def ask(terminal: Terminal) -> Status:
    """The status. Raises Unavailable where no `serve` is running, NoData where there is no folder."""
    must_serve(terminal.settings)
    found: Status = terminal.call("status")
    return found


def print_found(terminal: Terminal, found: Status) -> None:
    """The view, or where no `serve` runs here, what is known of those elsewhere."""
    if found["state"] != ELSEWHERE:
        print_once(found)
        return
    terminal.say("No `serve` runs on this data folder. Processes on its database:")
    rows = (
        (one["host"], one["pid"], ",".join(one["roles"]), one["version"], one["started_at"])
        for one in found["alive"] or ()
    )
    terminal.table(("host", "pid", "roles", "version", "since"), rows, "None.")
    terminal.say()
    queues = (
        (name, one["waiting"], one["due"], _age(one["oldest_s"])) for name, one in found["queue"].items()
    )
    terminal.table(("queue", "waiting", "due", "oldest"), queues, "")


def live(terminal: Terminal, found: Status, interval_s: float) -> None:
    """Draw until somebody ends it. Raises Unavailable when `serve` has stopped."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    screen = Live(console=console, screen=True, auto_refresh=False)
    with contextlib.suppress(KeyboardInterrupt), _ends_clean(), _keys_one_by_one(), screen:
        while True:
            screen.update(drawn(found, console.size.height), refresh=True)
            if _pressed_q(interval_s):
                return
            found = ask(terminal)


@contextlib.contextmanager
def _ends_clean() -> Iterator[None]:
    """SIGTERM ends it like Ctrl-C, so that the terminal is left as it was found."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _keys_one_by_one() -> Iterator[None]:
    """Keys come as they are pressed and are not shown."""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # not on Windows, which has no `serve` either
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed_q(patience_s: float) -> bool:
    """Wait so long, or until a key is pressed; whether it was q, or nobody is there any more."""
    if not sys.stdin.isatty():
        select.select([], [], [], patience_s)
        return False
    readable, _, _ = select.select([sys.stdin], [], [], patience_s)
    if not readable:
        return False
    keys = os.read(sys.stdin.fileno(), 64)
    return not keys or b"q" in keys.lower()


def print_once(found: Status) -> None:
    """Plain columns, as wide as they need to be and without colours in a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDEST
    Console(highlight=False, width=width).print(drawn(found, _FIXED_LINES + 2 * _ROWS_OF_PIPES))


def drawn(found: Status, height: int) -> RenderableType:
    """The whole view, at most so high: what matters most of connections and lanes."""
    from rich.console import Group

    rows = max(2 * _LEAST_ROWS, height - _FIXED_LINES)
    connections = sorted(
        found["connections"], key=lambda one: (not one["off"], -one["busy"], one["connection_id"])
    )
    lanes = found["lanes"] or []
    of_lanes = max(_LEAST_ROWS, min(len(lanes), rows // 2, rows - min(len(connections), rows // 2)))
    return Group(
        *_head(found),
        "",
        _rates(found),
        "",
        _queue(found),
        "",
        _connections(connections, rows - of_lanes),
        "",
        _lanes(lanes, of_lanes),
    )


def _head(found: Status) -> list[RenderableType]:
    from rich.text import Text

    commit = found["commit_s"]
    parts = [
        f"loop late {_ms(found['event_loop_lag_s'])}",
        f"commit {'-' if commit is None else _ms(commit)}",
        f"unsettled {found['unsettled_attempts']}",
        f"to write {found['write_queue']['units']}",
        f"disk {found['disk_free_bytes'] / (1 << 30):.1f} GB free",
    ]
    state, trouble = found["state"], [f"{kind} {count}" for kind, count in sorted(found["troubles"].items())]
    trouble += [f"paused: {one['scope']} {one['target_id'] or ''}".rstrip() for one in found["paused"] or ()]
    if found["grants_pause_s"]:
        trouble.append(f"caps rest {found['grants_pause_s']:.0f} s after a step of the clock")
    if found["queue"] is None:
        trouble.append("the database cannot be read")
    return [
        _line(
            Text.assemble(
                (f"Postroom {found['version']}  ", "bold"),
                (state, "green" if state == "sending" else "yellow"),
                f"  since {found['started_at']}  {_who(found)}",
            )
        ),
        _line(Text("  ".join(parts))),
        _line(Text("! " + ", ".join(trouble), "red") if trouble else Text("no trouble", "dim")),
    ]


def _who(found: Status) -> str:
    """One process, or how many."""
    count = len(found["processes"])
    silent = f", {found['silent_processes']} silent" if found["silent_processes"] else ""
    hosts = Counter(one["host"] for one in found.get("alive") or ())
    here = f"{count} processes{silent}" if count > 1 or silent else f"pid {found['pid']}"
    if len(hosts) < 2:
        return here
    return here + ", all: " + ", ".join(f"{host} {number}" for host, number in sorted(hosts.items()))


def _line(text: Any) -> Any:  # Any: rich's Text, imported late
    """On one line, whatever the width."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _rates(found: Status) -> RenderableType:
    names = ("accepted", "sent", "deferred", "bounced")
    rows: list[list[object]] = [
        [f"a second, {span}", *(f"{rates[name]:,.1f}" for name in names)]
        for span, rates in found["rates"].items()
    ]
    rows.append(["since start", *(f"{found['since_start'][name]:,}" for name in names)])
    return _table(("deliveries", *names), rows, right=names)


def _queue(found: Status) -> RenderableType:
    rows = [
        [purpose, f"{one['waiting']:,}", f"{one['due']:,}", _age(one["oldest_s"])]
        for purpose, one in (found["queue"] or {}).items()
    ]
    columns = ("queue", "waiting", "due", "oldest")
    return _table(columns, rows, right=columns[1:])


def _connections(found: Sequence[Status], most: int) -> RenderableType:
    rows = [
        [
            one["connection_id"],
            one["label"],
            _state(one),
            f"{one['busy']}/{one['busy'] + one['idle']}" + (f" +{one['opening']}" if one["opening"] else ""),
            _room(one["hour_room"], one["hourly_cap"]),
            _room(one["day_room"], one["daily_cap"]),
            f"{one['attempts'].get('sent', 0):,}",
        ]
        for one in found
    ]
    columns = ("id", "connection", "state", "sessions", "hour room", "day room", "sent")
    shown = _cut(rows, most, len(columns))
    return _table(columns, shown, right=("id", "sessions", *columns[4:]), gives=columns[1:3])


def _state(one: Status) -> str:
    if one["off"]:
        return ", ".join(one["off"])
    if one["full_until"]:
        return f"full until {one['full_until'][11:19]}"
    return f"ok, refuses {one['refused_senders']} From" if one["refused_senders"] else "ok"


def _lanes(found: Sequence[Status], most: int) -> RenderableType:
    rows = [
        [
            one["lane_id"],
            one["server_id"],
            one["purpose"],
            one["sender"],
            f"{one['due']:,}",
            _age(one["oldest_s"]),
            ", ".join(one["waits_for"]) or "by " + (", ".join(map(str, one["connections"])) or "-"),
        ]
        for one in found
    ]
    columns = ("lane", "server", "purpose", "sender", "due", "oldest", "waits for")
    shown = _cut(rows, most, len(columns))
    return _table(columns, shown, right=("lane", "server", "due", "oldest"), gives=("sender", "waits for"))


def _cut(rows: list[list[object]], most: int, columns: int) -> list[list[object]]:
    """At most so many rows; the last one then says how many are not shown."""
    if len(rows) <= most:
        return rows
    hidden = len(rows) - most + 1
    return [*rows[: most - 1], ["", f"and {hidden} more", *[""] * (columns - 2)]]


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    right: Sequence[str],
    gives: Sequence[str] = (),
) -> RenderableType:
    """right: numbers. gives: columns that become narrower where the whole is too wide."""
    from rich.table import Table
    from rich.text import Text

    cells = [[plain(str(cell)) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, *column in zip(columns, *cells, strict=True):
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name not in gives,  # rich makes those narrower first that may wrap; their cells may not
            overflow="ellipsis",
            min_width=min(10 if name in gives else 80, max(map(len, (name, *column)))),
        )
    for row in cells:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return table


def _room(room: int | None, cap: int | None) -> str:
    if cap is None:
        return "-"
    return f"{'?' if room is None else format(room, ',')}/{cap:,}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
