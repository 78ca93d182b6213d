"""Bounce: which kind of refusal a reply is, and whether it speaks against the address.

The rules are data, in `bounce_rules.toml`: the first that fits decides, texts before codes, because
servers put very different refusals under one code. Unsure means other and suppresses nothing: a wrong
retry costs a second, a wrong suppression costs a customer.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import msgspec

from postroom.mail.status import Status, find_status, parse_status


class BounceClass(StrEnum):
    """What a refusal is about."""

    UNKNOWN_ADDRESS = "unknown_address"  # hard: no such mailbox
    UNKNOWN_DOMAIN = "unknown_domain"  # hard: the domain takes no mail
    FULL_MAILBOX = "full_mailbox"  # soft, even when the code says 5 (5.2.2)
    POLICY = "policy"  # reputation, block list, authentication (SPF, DKIM, DMARC), local rules
    CONTENT = "content"  # this message: spam score, virus, a link or header in it
    TOO_LARGE = "too_large"
    SENDER_REFUSED = "sender_refused"  # this connection may not use this From or return path
    AUTH_REQUIRED = "auth_required"  # not logged in, or relaying denied
    RATE_LIMITED = "rate_limited"  # too many connections, messages or recipients for now, or quota used up
    GREYLISTED = "greylisted"
    OTHER_TEMPORARY = "other_temporary"
    OTHER_PERMANENT = "other_permanent"


_HARD = frozenset({BounceClass.UNKNOWN_ADDRESS, BounceClass.UNKNOWN_DOMAIN})
_MAX_TEXT = 2000  # of a reply; what a rule looks for stands near the front

# Taken out before texts are compared: codes repeated on every line of a reply, and addresses, which
# may hold any word.
_CODES = re.compile(r"(?<![\d.])\d{3}(?:-|[ ](?=[245]\.\d))|(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?!\.?\d)")
_ADDRESSES = re.compile(r"[^\s<>@:\"']{1,64}@[^\s<>@:\"']{1,255}")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Verdict:
    """How a refusal is to be taken.

    `permanent`: the reply's first digit was 5; anything unknown counts as temporary. `suppresses`: it
    proves that the address does not work. `rule`: the name of the rule that decided, for `explain`.
    """

    bounce_class: BounceClass
    permanent: bool
    suppresses: bool
    rule: str

    @property
    def sender_refused(self) -> bool:
        """This connection refuses this From or return path; another may well take it."""
        return self.bounce_class is BounceClass.SENDER_REFUSED


@dataclass(frozen=True)
class Rule:
    """One row of `bounce_rules.toml`: every condition it has must hold."""

    name: str
    bounce_class: BounceClass
    texts: re.Pattern[str] | None
    codes: frozenset[int]
    enhanced: frozenset[str]  # without the class digit: "1.1", or "7.*" for a whole subject
    phases: frozenset[str]
    permanent: bool | None

    def fits(self, code: int, status: Status | None, text: str, phase: str) -> bool:
        """Whether every condition holds; `text` as `_comparable` makes it."""
        if self.permanent is not None and self.permanent != _is_permanent(code):
            return False
        if self.phases and phase not in self.phases:
            return False
        if self.codes and code not in self.codes:
            return False
        if self.enhanced and (
            status is None or not self.enhanced & {f"{status.subject}.{status.detail}", f"{status.subject}.*"}
        ):
            return False
        return self.texts is None or self.texts.search(text) is not None


def classify(code: int, enhanced: str, text: str, phase: str) -> Verdict:
    """The kind of refusal. Pure and total: any input gets a verdict.

    code: the reply's three digits, 0 if there was none. enhanced: "5.1.1", or "" to look for it in
    `text`. phase: where it was said, as `transports.interface.Phase` names them; a delivery report
    about a recipient counts as "rcpt". Only a permanent refusal of a hard class at "rcpt" suppresses.
    """
    status = parse_status(enhanced) if enhanced else find_status(code, text)
    permanent = _is_permanent(code) if code else (status is not None and status.severity == 5)
    if not code:
        code = 550 if permanent else 450
    comparable = _comparable(text)
    for rule in rules():
        if rule.fits(code, status, comparable, phase):
            suppresses = permanent and phase == "rcpt" and rule.bounce_class in _HARD
            return Verdict(rule.bounce_class, permanent, suppresses, rule.name)
    other = BounceClass.OTHER_PERMANENT if permanent else BounceClass.OTHER_TEMPORARY
    return Verdict(other, permanent, False, "other")


def _is_permanent(code: int) -> bool:
    return code // 100 == 5


def _comparable(text: str) -> str:
    text = text[:_MAX_TEXT].lower().replace("\u2019", "'")
    return _SPACES.sub(" ", _ADDRESSES.sub("@", _CODES.sub(" ", text)))


@cache
def rules() -> tuple[Rule, ...]:
    """The rules in the order they are tried."""
    with Path(__file__).with_name("bounce_rules.toml").open("rb") as file:
        table = msgspec.convert(tomllib.load(file), _Table)
    return tuple(
        Rule(
            name=row.name,
            bounce_class=row.bounce_class,
            texts=re.compile("|".join(f"(?:{text})" for text in row.texts)) if row.texts else None,
            codes=frozenset(row.codes),
            enhanced=frozenset(row.enhanced),
            phases=frozenset(row.phases),
            permanent=row.permanent,
        )
        for row in table.rule
    )


class _Row(msgspec.Struct, forbid_unknown_fields=True, rename={"bounce_class": "class"}):
    name: str
    bounce_class: BounceClass
    texts: list[str] = []
    codes: list[int] = []
    enhanced: list[str] = []
    phases: list[str] = []
    permanent: bool | None = None


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    rule: list[_Row]
