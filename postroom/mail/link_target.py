"""What a link of a message leads to, and whether it may be put behind a link of ours.

A click on a link of ours is answered with the stored target, so only what a browser would go to in just this
one way is taken: http or https with a host, no user name in it, nothing that programs read differently
(RFC 3986; the URL Standard), and no placeholder that somebody behind us fills in. Everything else stays in
the message as its author wrote it.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from postroom.errors import Invalid
from postroom.mail.address import parse_domain

MOST_CHARACTERS = 8_000
_BEGIN = re.compile(r"https?://[^/?#\\@]", re.IGNORECASE)
# Blanks and controls, what delimits URLs elsewhere, braces of templates, halves of surrogate pairs.
_NEVER = re.compile(r"[\x00-\x20\x7f-\xa0<>\"\\{}\u2028\u2029\ud800-\udfff]|%(?![0-9A-Fa-f]{2})|\*\||\|\*")
# As nearly all are written; nothing of it needs a closer look.
_PLAIN = re.compile(
    r"https?://[A-Za-z0-9][A-Za-z0-9.-]{0,252}(?:[/?#](?>(?:[!#$&-;=?-\[\]^_`a-z~]|%[0-9A-Fa-f]{2})*))?"
)
_BLANKS = "".join(map(chr, range(0x21)))
_IPV6 = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]*)?")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
# A link of Postroom's, of this or another installation: one behind another would count everything twice.
_OURS = re.compile(r"/(?:[ou]/[a-z2-7]{39}|c/[a-z2-7]{52})(?:[?#]|$)", re.IGNORECASE)
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def target_of(written: str) -> str | None:
    """The target a link with this value has, or None where it must stay as it is."""
    target = written.strip(_BLANKS)
    if len(target) > MOST_CHARACTERS or _OURS.search(target):
        return None
    return target if _PLAIN.fullmatch(target) or _is_sound(target) else None


def _is_sound(target: str) -> bool:
    return bool(_BEGIN.match(target)) and not _NEVER.search(target) and location_of(target) is not None


def location_of(target: str) -> str | None:
    """A target as it may stand in a Location header: ASCII, its host as browsers look it up. None: none can.

    Letters beyond ASCII are percent-encoded as UTF-8, as mail programs and browsers do.
    """
    try:
        parts = urlsplit(target)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    literal = _IPV6.fullmatch(parts.netloc)
    name = literal[1] if literal else _host(host)
    if name is None or "@" in parts.netloc or ("[" in parts.netloc and not literal):
        return None
    rest = target.split("//", 1)[1][len(parts.netloc) :]
    return f"{parts.scheme}://{name}{'' if port is None else f':{port}'}{quote(rest, safe=_ASCII)}"


def _host(name: str) -> str | None:
    """A host name as ASCII: as it is where it may stand in a URL, underscores too, else by IDNA."""
    if _HOST.fullmatch(name):
        return name
    try:
        return parse_domain(name, "link")
    except Invalid:
        return None
