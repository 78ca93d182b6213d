"""Addresses: one parser, used both to check what a caller wrote and to make what is sent.

A small scanner in linear time. What it accepts is RFC 5321 4.1.2 (Mailbox) and RFC 5322 3.4 (display
names), widened by RFC 6531 to UTF-8 and by UTS #46 to international domains. Comments, groups, source
routes and domain literals are refused: nobody sends to them, and each is a way to make two programs
read two different addresses from one text.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import idna
import msgspec

from postroom.errors import Invalid
from postroom.mail.content import Mailbox
from postroom.mail.words import FORBIDDEN, check_text, decode_words

MAX_LOCAL = 64  # RFC 5321 4.5.3.1.1, octets
MAX_DOMAIN = 255  # RFC 5321 4.5.3.1.2, octets of the A-label form
MAX_LABEL = 63  # RFC 1035 2.3.4
_KEPT_LENGTH = 600  # of what was read and is kept, so that nobody fills memory with blanks
MAX_ADDRESS = 254  # RFC 5321 4.5.3.1.3: a path of 256 less the angle brackets

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_ATOM_CHARS = re.compile(rf"[{_ATEXT}.\x80-\U0010ffff]*")
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_QUOTED = re.compile(r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_DOMAIN_CHARS = re.compile(r"[^ \t@<>,;:()\[\]\\\"]*")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_BLANKS = re.compile(r"[ \t]*")
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})

_SPECIAL_REASONS = {
    "(": "comments in parentheses are not accepted",
    ")": "it has an unexpected )",
    "<": "it has an unexpected <",
    ">": "it has an unexpected >",
    "[": "addresses at an IP address are not accepted",
    "]": "it has an unexpected ]",
    ":": "groups and source routes are not accepted",
    ";": "it has an unexpected ;",
    "\\": "it has an unexpected backslash",
    '"': "it has an unexpected quotation mark",
    ",": "only one address is accepted here",
    "@": "it has more than one @",
}


class Address(msgspec.Struct, frozen=True):
    """One address, made by `parse_address`. `local` is as written, quotes included.

    `domain` is as written, or for an international domain its Unicode form after UTS #46 mapping (so
    that no invisible character is left in it). `ascii_domain` is the same in lower-case A-labels.
    """

    local: str
    domain: str
    ascii_domain: str

    @property
    def text(self) -> str:
        """For people: Unicode."""
        return f"{self.local}@{self.domain}"

    @property
    def wire(self) -> str:
        """For SMTP and header fields: the domain as A-labels; ASCII unless `needs_smtputf8`."""
        return f"{self.local}@{self.ascii_domain}"

    @property
    def key(self) -> str:
        """For comparing: lower case, domain as A-label, a needless quoting of the local part undone."""
        local = self.local
        if local.startswith('"'):
            local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
            if _local_fault(local) is not None:
                local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if local.isascii():
            return f"{local.lower()}@{self.ascii_domain}"
        return f"{unicodedata.normalize('NFC', local.lower())}@{self.ascii_domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """The local part is not ASCII, so only a peer with SMTPUTF8 takes it (RFC 6531 3.3)."""
        return not self.local.isascii()


class _Refused(Exception):
    """Internal: why a text is no address."""


class _Blank(Exception):
    """Internal: there is nothing."""


def parse_address(text: str, field: str) -> Address:
    """`text` as exactly one address (addr-spec, no display name, no angle brackets).

    Blanks around it are ignored. Raises Invalid(field, reason).
    """
    try:
        return _parsed(text) if len(text) <= _KEPT_LENGTH else _parsed.__wrapped__(text)
    except _Refused as error:
        raise Invalid(field, f"is not a valid email address: {error}") from None
    except _Blank:
        raise Invalid(field, "can't be blank") from None


# A message's sender and recipients are read at several steps of its way.
@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address:
    address, end = _addr_spec(text, _start(text))
    _expect_end(text, end)
    return address


def parse_mailbox(text: str, field: str) -> Mailbox:
    """`text` as one address with or without a display name: `Ann <ann@example.com>`.

    The name is Unicode, unquoted, encoded-words in it decoded. Raises Invalid(field, reason).
    """
    try:
        mailbox, end = _mailbox(text, _start(text), field)
        _expect_end(text, end)
    except _Refused as error:
        raise Invalid(field, f"is not a valid email address: {error}") from None
    except _Blank:
        raise Invalid(field, "can't be blank") from None
    return mailbox


def write_mailbox(mailbox: Mailbox) -> str:
    """`Name <address>` or the address, as Unicode text that `parse_mailbox` reads back the same."""
    if not mailbox.name:
        return mailbox.address
    if _ATOM_CHARS.fullmatch(mailbox.name) and "=?" not in mailbox.name:
        return f"{mailbox.name} <{mailbox.address}>"
    quoted = mailbox.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{mailbox.address}>'


def parse_mailbox_list(text: str, field: str, limit: int) -> tuple[Mailbox, ...]:
    """`text` as a comma-separated list of 1 to `limit` mailboxes; empty places between commas are ignored.

    Raises Invalid(field, reason), also when there are more than `limit`, before reading the rest.
    """
    return (_kept if len(text) <= _KEPT_LENGTH else _listed)(text, field, limit)


def _listed(text: str, field: str, limit: int) -> tuple[Mailbox, ...]:
    found: list[Mailbox] = []
    try:
        position = _start(text)
        while True:
            while text.startswith(",", position):
                position = _skip_blanks(text, position + 1)
            if position == len(text):
                break
            if len(found) == limit:
                raise Invalid(field, f"has more than {limit} addresses")
            mailbox, position = _mailbox(text, position, field)
            found.append(mailbox)
            position = _skip_blanks(text, position)
            if position < len(text) and text[position] != ",":
                raise _Refused(_unexpected(text[position]))
    except _Refused as error:
        raise Invalid(field, f"is not a valid list of email addresses: {error}") from None
    except _Blank:
        raise Invalid(field, "can't be blank") from None
    if not found:
        raise Invalid(field, "can't be blank")
    return tuple(found)


_kept = lru_cache(maxsize=1024)(_listed)  # one sender sends many messages


def parse_domain(text: str, field: str) -> str:
    """A host or domain name as lower-case A-labels (RFC 1123 2.1, UTS #46). Raises Invalid(field, reason).

    For everything that becomes part of a command line or header: helo names, bounce domains, hosts.
    """
    try:
        return _ascii_domain(text)[1]
    except _Refused as error:
        raise Invalid(field, f"is not a valid domain name: {error}") from None


def wire_address(address: str) -> str:
    """The text of an address that was parsed before, with its domain as A-labels (`Address.wire`).

    Raises Invalid("address", ...) when it was not.
    """
    return parse_address(address, "address").wire


def address_key(address: str) -> str:
    """The text of an address that was parsed before, for comparing (`Address.key`)."""
    return parse_address(address, "address").key


def is_mixed_script(domain: str) -> bool:
    """Whether a label of the Unicode `domain` mixes Latin, Greek or Cyrillic letters: show a warning.

    Such a label is how a domain imitates another (UTS #39 5.2, reduced to the scripts that look alike).
    """
    for label in domain.split("."):
        scripts = {unicodedata.name(c, "").partition(" ")[0] for c in label if c.isalpha()}
        if len(scripts & {"LATIN", "GREEK", "CYRILLIC"}) > 1:
            return True
    return False


def _start(text: str) -> int:
    found = FORBIDDEN.search(text)
    if found is not None:
        raise _Refused("it contains a line break or control character")
    start = _skip_blanks(text, 0)
    if start == len(text):
        raise _Blank
    return start


def _skip_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


def _expect_end(text: str, position: int) -> None:
    position = _skip_blanks(text, position)
    if position < len(text):
        raise _Refused(_unexpected(text[position]))


def _unexpected(char: str) -> str:
    return _SPECIAL_REASONS.get(char, "it has text after the address")


def _mailbox(text: str, position: int, field: str) -> tuple[Mailbox, int]:
    """One mailbox at `position`, and where it ends."""
    first = position
    words: list[str] = []
    while position < len(text):
        char = text[position]
        if char == "<":
            address, end = _addr_spec(text, position + 1)
            if not text.startswith(">", end):
                raise _Refused(_unexpected(text[end]) if end < len(text) else "the closing > is missing")
            name = " ".join(words)
            if "=?" in name:
                name = decode_words(name)
            check_text(name, field)
            return Mailbox(address.text, name), end + 1
        if char == "@":
            if len(words) != 1 or text[position - 1] in " \t":
                raise _Refused("a name that holds special characters must be in double quotes")
            address, end = _addr_spec(text, first)
            return Mailbox(address.text), end
        if char == '"':
            quoted = _QUOTED.match(text, position)
            if quoted is None:
                raise _Refused("the closing quotation mark is missing")
            words.append(_QUOTED_PAIR.sub(r"\1", quoted.group()[1:-1]))
            position = quoted.end()
        else:
            atom = _ATOM_CHARS.match(text, position)
            if atom is None or atom.end() == position:
                raise _Refused(_SPECIAL_REASONS.get(char, "it has an unexpected character"))
            words.append(atom.group())
            position = atom.end()
        if position < len(text) and text[position] in " \t":
            position = _skip_blanks(text, position)
    raise _Refused("it has no @" if not words or len(words) == 1 else "it has no address in angle brackets")


def _addr_spec(text: str, position: int) -> tuple[Address, int]:
    """local@domain at `position`, and where it ends."""
    if text.startswith('"', position):
        quoted = _QUOTED.match(text, position)
        if quoted is None:
            raise _Refused("the closing quotation mark is missing")
        local, end = quoted.group(), quoted.end()
        fault = None
        if "@" in local:  # a relay that forgets the quotes would deliver to another domain
            fault = "a quoted @ is not accepted"
        elif any(unicodedata.category(c) in _INVISIBLE for c in local if c > "\x7f"):
            fault = "the part before the @ has an invisible character"
    else:
        atoms = _ATOM_CHARS.match(text, position)
        local, end = (atoms.group(), atoms.end()) if atoms else ("", position)
        fault = _local_fault(local)
    if not text.startswith("@", end):
        if end == len(text):
            raise _Refused("it has no @")
        if text[end] in " \t":
            raise _Refused("the part before the @ has a blank")
        raise _Refused(_SPECIAL_REASONS.get(text[end], "the part before the @ has an unexpected character"))
    if fault:
        raise _Refused(fault)
    if len(local.encode("utf-8")) > MAX_LOCAL:
        raise _Refused(f"the part before the @ is longer than {MAX_LOCAL}")
    run = _DOMAIN_CHARS.match(text, end + 1)
    written = run.group() if run else ""
    end += 1 + len(written)
    if not written and end < len(text):
        raise _Refused(_SPECIAL_REASONS.get(text[end], "the domain is missing"))
    domain, ascii_domain = _ascii_domain(written)
    if len(local.encode("utf-8")) + 1 + len(ascii_domain) > MAX_ADDRESS:
        raise _Refused(f"it is longer than {MAX_ADDRESS}")
    return Address(local, domain, ascii_domain), end


def _local_fault(local: str) -> str | None:
    """Why `local` is no Dot-string (RFC 5321 4.1.2, RFC 6531 3.3), or None."""
    if _DOT_STRING.fullmatch(local):
        return None
    if not local:
        return "the part before the @ is missing"
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return "a dot in the part before the @ is out of place"
    if any(unicodedata.category(c) in _INVISIBLE for c in local):
        return "the part before the @ has an invisible character"
    return None if _ATOM_CHARS.fullmatch(local) else "the part before the @ has an unexpected character"


@lru_cache(maxsize=4096)
def _ascii_domain(written: str) -> tuple[str, str]:
    """(as shown, as lower-case A-labels); label by label, so that mixed forms work (UTS #46 4)."""
    if not written:
        raise _Refused("the domain is missing")
    if len(written) > MAX_DOMAIN:
        raise _Refused(f"the domain is longer than {MAX_DOMAIN}")
    shown = written
    try:
        if not written.isascii():
            shown = idna.uts46_remap(written, std3_rules=True)
        labels = [
            (label if label.isascii() else idna.alabel(label).decode("ascii")) for label in shown.split(".")
        ]
    except UnicodeError:
        raise _Refused("the domain has a character that domain names cannot have") from None
    for label in labels:
        if not label:
            raise _Refused("a dot in the domain is out of place")
        if len(label) > MAX_LABEL:
            raise _Refused(f"a part of the domain is longer than {MAX_LABEL}")
        if not _LABEL.fullmatch(label):
            raise _Refused("the domain has a character that domain names cannot have")
    if labels[-1].isdigit():
        raise _Refused("the domain ends in a number")
    ascii_domain = ".".join(labels).lower()
    if len(ascii_domain) > MAX_DOMAIN:
        raise _Refused(f"the domain is longer than {MAX_DOMAIN}")
    return shown, ascii_domain
