"""The fault matrix as data: for each stage and each trouble of a peer, what becomes of everything.

`MATRIX` and `PARTICULAR` name the answer expected; `ANSWERS` says what each answer means. The tests play
every cell against a running engine, and docs/faults.md is rendered from here:

    python -m tests.delivery.faults.table > docs/faults.md
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from postroom.core.message import DeliveryState
from postroom.transports.interface import Fault, Result


class Trouble(StrEnum):
    """What the peer does instead of working."""

    REFUSE = "refuse"
    HANG = "hang"
    DROP = "drop"
    RESET = "reset"
    LATER = "4xx"
    NEVER = "5xx"
    CLOSING = "421"
    GARBAGE = "garbage"
    LONG_LINE = "1 MB line"
    ENDLESS = "endless"
    EARLY = "early"
    SPLIT = "split"


class Row(StrEnum):
    """When it does so."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    EHLO2 = "second EHLO"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "mid-body"
    DOT = "after the dot"
    DOT_BULK = "after the dot, bulk"
    QUIT = "QUIT"


class Room(StrEnum):
    """What an attempt did with its room under the caps."""

    NONE = "none taken"
    RETURNED = "returned"
    USED = "used"


@dataclass(frozen=True)
class Answer:
    """What becomes of one delivery and of its connection when the peer misbehaves once.

    meaning: for the docs. fault: whose it is. result: of the attempt; None: nothing was claimed for one.
    state, tries: the delivery's, once everything is settled and no time has passed. room: the attempt's.
    backs_off: the connection. refuses_sender: the pair of connection and From is set aside. suppressed:
    the recipient. ends: the delivery's last state, when the peer works again and time passes; copies:
    how often the peer has the whole message then.
    """

    meaning: str
    result: Result | None
    fault: Fault
    state: DeliveryState = DeliveryState.READY
    tries: int = 0
    room: Room = Room.RETURNED
    backs_off: bool = False
    refuses_sender: bool = False
    suppressed: bool = False
    ends: DeliveryState = DeliveryState.SENT
    copies: int = 1


_READY, _BOUNCED = DeliveryState.READY, DeliveryState.BOUNCED
_BACK = Answer(
    "the way out's trouble: the delivery goes back unchanged",
    Result.RETURNED,
    Fault.CONNECTION,
    backs_off=True,
)
_LATER = Answer("", Result.DEFERRED, Fault.MESSAGE, _READY, tries=1)
_BOUNCE = Answer("", Result.BOUNCED, Fault.MESSAGE, _BOUNCED, ends=_BOUNCED, copies=0)

ANSWERS: dict[str, Answer] = {
    "fine": Answer(
        "no trouble at all",
        Result.SENT,
        Fault.NONE,
        DeliveryState.SENT,
        room=Room.USED,
        ends=DeliveryState.SENT,
    ),
    "door": Answer(
        "no session came about, the connection's fault: nothing was claimed for it",
        None,
        Fault.CONNECTION,
        room=Room.NONE,
        backs_off=True,
    ),
    "login": Answer(
        "no session came about, the login's fault: a second time, and the connection has failed",
        None,
        Fault.LOGIN,
        room=Room.NONE,
        backs_off=True,
    ),
    "back": _BACK,
    "cut": replace(
        _BACK,
        meaning="the same in the body: the room is used up, so it takes a step of its schedule and ends",
        tries=1,
        room=Room.USED,
    ),
    "sender": Answer(
        "this connection refuses this From: another takes it, or it waits an hour",
        Result.RETURNED,
        Fault.SENDER,
        refuses_sender=True,
    ),
    "wait": replace(_LATER, meaning="not now, for this recipient", fault=Fault.RECIPIENT),
    "wait-m": replace(_LATER, meaning="not now, for this message"),
    "wait-b": replace(_LATER, meaning="not now, for this message, after its body was begun", room=Room.USED),
    "busy": replace(
        _LATER,
        meaning="not now, for anything: this message takes a step of its schedule, and the connection rests",
        fault=Fault.CONNECTION,
        room=Room.USED,
        backs_off=True,
    ),
    "no": replace(
        _BOUNCE, meaning="never, for this recipient, and not for want of an address", fault=Fault.RECIPIENT
    ),
    "gone": replace(_BOUNCE, meaning="there is no such recipient", fault=Fault.RECIPIENT, suppressed=True),
    "no-m": replace(_BOUNCE, meaning="never, for this message"),
    "no-b": replace(_BOUNCE, meaning="never, for this message, after its body was begun", room=Room.USED),
    "open": Answer(
        "unknown: sent again after the wait, with the same Message-ID",
        Result.UNKNOWN,
        Fault.CONNECTION,
        DeliveryState.UNKNOWN,
        room=Room.USED,
        backs_off=True,
        copies=2,
    ),
    "shut": Answer(
        "unknown and bulk: unverified at once, never sent again unasked",
        Result.UNKNOWN,
        Fault.CONNECTION,
        DeliveryState.UNVERIFIED,
        room=Room.USED,
        backs_off=True,
        ends=DeliveryState.UNVERIFIED,
    ),
}

# One line a stage, one word a trouble, in the order of Trouble; "-": there is no such thing.
_CELLS = """
connect             | door   door door door -      -     -    -    -    -    -    -
banner              | door   door door door door   door  door door door door door fine
EHLO                | door   door door door door   door  door door door door door fine
STARTTLS            | door   door door door door   door  door door door door door fine
second EHLO         | login  door door door door   login door door door door door fine
AUTH                | login  door door door door   login door door door door back fine
MAIL                | sender back back back back   no-m  back back back back back fine
RCPT                | no     back back back wait   gone  back back back back back fine
DATA                | no-m   back back back wait-m no-m  back back back back back fine
mid-body            | no-b   cut  cut  cut  wait-b no-b  cut  cut  cut  cut  cut  -
after the dot       | no-b   open open open wait-b no-b  busy open open open fine fine
after the dot, bulk | no-b   shut shut shut wait-b no-b  busy shut shut shut fine fine
QUIT                | fine   fine fine fine fine   fine  fine fine fine fine fine fine
"""


def _matrix() -> dict[tuple[Row, Trouble], str]:
    found: dict[tuple[Row, Trouble], str] = {}
    for line in _CELLS.strip().splitlines():
        name, _, words = line.partition("|")
        for trouble, word in zip(Trouble, words.split(), strict=True):
            if word != "-":
                found[Row(name.strip()), trouble] = word
    return found


MATRIX = _matrix()

# Troubles that fit no cell. The keys name the cases in test_particular.py.
PARTICULAR: dict[str, str] = {
    "the certificate has expired": "door",
    "the certificate is somebody else's": "door",
    "the certificate's authority is not trusted": "door",
    "nothing newer than TLS 1.0": "door",
    "dropped in the TLS handshake": "door",
    "reset in the TLS handshake": "door",
    "silent in the TLS handshake": "door",
    "TLS is required and not offered": "door",
    "the login's method is not offered": "login",
    "refused at MAIL for want of a login (530)": "back-l",
    "refused at RCPT, and DATA answered 354 all the same": "gone",
    "refused at MAIL, and DATA answered 354 all the same": "no-m",
    "SMTPUTF8 is needed and not offered": "no-m",
    "8BITMIME is needed and not offered": "no-m",
    "larger than the server's SIZE": "no-m",
    "a reused session is dropped at MAIL": "fine",
    "a reused session says 421 and closes while idle": "fine",
    "a spare session is closed before its first use": "fine",
}
ANSWERS["back-l"] = replace(
    _BACK, meaning="refused for want of a login: the login's fault", fault=Fault.LOGIN
)

_REFUSALS = {
    Row.CONNECT: "nobody listens",
    Row.BANNER: "554",
    Row.EHLO: "502",
    Row.STARTTLS: "not offered",
    Row.EHLO2: "502",
    Row.AUTH: "535",
    Row.MAIL: "553 5.1.8 sender address rejected",
    Row.RCPT: "554 5.7.1 relay access denied",
    Row.DATA: "554 5.6.0",
    Row.BODY: "552 5.3.4",
    Row.DOT: "554 5.7.1",
    Row.QUIT: "500",
}
_LEGEND = {
    Trouble.REFUSE: "the refusal that belongs to the stage ("
    + "; ".join(f"{row}: {text}" for row, text in _REFUSALS.items())
    + ")",
    Trouble.HANG: "says nothing more",
    Trouble.DROP: "closes the connection",
    Trouble.RESET: "closes it with a TCP reset",
    Trouble.LATER: "`451 4.3.0 later`",
    Trouble.NEVER: "`550 5.1.1 no such user`, wherever it is out of place too",
    Trouble.CLOSING: "`421 4.3.2 going down`, and closes",
    Trouble.GARBAGE: "bytes that are no SMTP",
    Trouble.LONG_LINE: "a reply line of a million bytes",
    Trouble.ENDLESS: "a reply of lines without end",
    Trouble.EARLY: "the reply, and at once the reply to what was not asked yet (in mid-body: to the dot)",
    Trouble.SPLIT: "the right reply, one byte a packet",
}


def matrix() -> str:
    """The matrix alone, as it stands in docs/delivery.md too."""
    rows = (
        f"| {row} | " + " | ".join(MATRIX.get((row, trouble), "–") for trouble in Trouble) + " |"
        for row in Row
    )
    head = "| stage | " + " | ".join(Trouble) + " |"
    return "\n".join([head, "|---" * (len(Trouble) + 1) + "|", *rows])


def render() -> str:
    """docs/faults.md."""
    used = {*MATRIX.values(), *PARTICULAR.values()}
    parts = [
        _HEAD,
        matrix(),
        "",
        "## What the peer does",
        "",
        *(f"- *{trouble}*: {text}" for trouble, text in _LEGEND.items()),
        "",
        "## What the answers mean",
        "",
        "| answer | meaning | whose fault | delivery | schedule | room | connection | in the end |",
        "|---|---|---|---|---|---|---|---|",
        *(_legend(word, answer) for word, answer in ANSWERS.items() if word in used),
        _MIDDLE,
        "| trouble | answer |",
        "|---|---|",
        *(f"| {name} | {word} |" for name, word in PARTICULAR.items()),
        _TAIL,
    ]
    return "\n".join(parts)


def _legend(word: str, answer: Answer) -> str:
    connection = "backs off" if answer.backs_off else "goes on"
    if answer.refuses_sender:
        connection = "goes on, without this From"
    end = answer.ends.value + (", address suppressed" if answer.suppressed else "")
    if answer.copies > 1:
        end += f"; the peer may have {answer.copies}"
    schedule = "one step" if answer.tries else "untouched"
    cells = (
        word,
        answer.meaning,
        answer.fault.value,
        answer.state.value,
        schedule,
        answer.room.value,
        connection,
        end,
    )
    return "| " + " | ".join(cells) + " |"


_HEAD = """# When a peer misbehaves

What becomes of a message, of its room under the caps and of the connection, for every stage of an SMTP
session and every kind of trouble. Each cell is played against a running engine by `tests/delivery/faults`,
and this page is rendered from the table those tests hold:

    python -m tests.delivery.faults.table > docs/faults.md

In every cell also: nothing is suppressed that is not named here, the login is never said in clear text,
other connections go on while this one is in trouble, and once the peer works again the connection does.
"""

_MIDDLE = """
*In the end* is what becomes of it when the peer works again. `back` and `door` never end a delivery: it
waits for the way out, whatever that takes, and another connection that may send it takes it at once. A
421 after the dot is both: the message was refused for now and takes a step of its retry schedule, as after
any 4xx to a message, so that one which always gets it is given up in the end; and the connection rests.

## Troubles that fit no cell
"""

_TAIL = """
TLS cases are the same whether STARTTLS is required or taken when offered, and with TLS from the first byte:
nothing falls back to clear text. What a server cannot carry (its SIZE, SMTPUTF8, 8BITMIME) is found out
before anything is said about the message.

## When trouble goes on

- A connection that backs off waits 1 second, then twice as long each time, up to 10 minutes; one session
  then tries. Ten minutes without one success, or the login refused twice, and it has *failed*
  (`connection_failed`, an event). It is probed every 10 minutes and comes back by itself
  (`connection_recovered`).
- Ten equal refusals within a minute and without a success between them hold the connection for 10 minutes,
  with one event (`connection_held`). What was refused stays refused; the rest stays queued.
- A connection that fails, backs off, is held or refuses this From is passed over: its mail goes to the next
  connection that may send it, and waits where there is none.
"""


if __name__ == "__main__":
    print(render(), end="")
