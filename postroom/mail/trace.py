"""Trace: the Received field we put on mail that a program handed in, and what such fields tell of a loop.

RFC 5321 4.4 and 6.3, RFC 3848 and RFC 6531 4.3 (the word behind "with"). The field names this installation
by a mark of its own, so that mail which comes round is known again whatever the hosts on the way are called.
Deviation: without the client there is no "from" clause, because where a program runs is nobody's business.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from postroom.mail.headers import date_header

MOST_HOPS = 50  # Received fields, of which a submission has few; RFC 5321 6.3 has 100 for relays
MOST_ROUNDS = 2  # times that mail may come to us before it counts as going in circles

_BLANKS = re.compile(rb"[ \t\r\n]+")
_DOMAIN = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True)
class Arrival:
    """How a message came in. host: our name in EHLO. instance: this installation's own name, never shown.

    client, client_name: the peer's IP address and what it called itself; "" where they are not to be told.
    """

    host: str
    instance: str
    secure: bool
    utf8: bool = False
    client: str = ""
    client_name: str = ""


def mark_of(instance: str) -> str:
    """What stands for this installation in its Received fields; tells nothing else about it."""
    return blake2b(instance.encode(), digest_size=8, person=b"received").hexdigest()


def received_field(arrival: Arrival, message: str, at_us: int) -> str:
    """The field with its CRLFs, in lines of at most 78 where names allow it. message: its public id."""
    protocol = ("UTF8SMTP" if arrival.utf8 else "ESMTP") + ("SA" if arrival.secure else "A")
    lines = [f"by {arrival.host} (Postroom {mark_of(arrival.instance)})"]
    if arrival.client:
        lines.insert(0, _from_clause(arrival))
    lines += [f"with {protocol} id {message};", date_header(at_us)]
    return "Received: " + "\r\n\t".join(lines) + "\r\n"


def _from_clause(arrival: Arrival) -> str:
    address = ipaddress.ip_address(arrival.client.partition("%")[0])
    literal = f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
    # What a peer calls itself is only its word (RFC 5321 4.1.4), and may be anything.
    name = arrival.client_name if _DOMAIN.fullmatch(arrival.client_name) else literal
    return f"from {name} ({literal})"


def goes_in_circles(fields: Iterable[tuple[bytes, bytes]], instance: str) -> str:
    """Why these header fields (lower-case name, whole field) are those of a loop, or ""."""
    received = [whole for name, whole in fields if name == b"received"]
    if len(received) > MOST_HOPS:
        return f"has passed more than {MOST_HOPS} servers: a loop"
    mark = f" (Postroom {mark_of(instance)}) ".encode()
    if sum(mark in _BLANKS.sub(b" ", whole) for whole in received) >= MOST_ROUNDS:
        return f"was here {MOST_ROUNDS} times already: a loop"
    return ""
