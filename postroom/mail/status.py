"""Enhanced status codes: "5.1.1" found in replies and reports, and what it is about (RFC 3463, RFC 2034)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Not a part of an IP address or of a version: neither a digit nor a dot and digit on either side.
_CODE = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")

_SUBJECTS = (
    "other",  # X.0
    "address",
    "mailbox",
    "mail system",
    "network or routing",
    "protocol",
    "content",
    "security or policy",  # X.7
)


@dataclass(frozen=True)
class Status:
    """class.subject.detail of RFC 3463 2."""

    severity: int  # 2 success, 4 temporary, 5 permanent
    subject: int
    detail: int

    @property
    def text(self) -> str:
        """As written: "5.1.1"."""
        return f"{self.severity}.{self.subject}.{self.detail}"

    @property
    def about(self) -> str:
        """What the subject digit says, in words; "other" for one RFC 3463 does not have."""
        return _SUBJECTS[self.subject] if self.subject < len(_SUBJECTS) else "other"


def parse_status(text: str) -> Status | None:
    """`text`, such as a Status field's value, when it is exactly one code; else None."""
    matched = _CODE.fullmatch(text.strip())
    return Status(*map(int, matched.groups())) if matched else None


def find_status(code: int, text: str) -> Status | None:
    """The enhanced code a reply speaks of, or None.

    code: the reply's three digits, 0 if unknown. Codes of another class than the reply's (RFC 2034 4)
    are versions, dates or quotations, and are passed over. Linear time.
    """
    for matched in _CODE.finditer(text[:4000]):
        status = Status(*map(int, matched.groups()))
        if not code or status.severity == code // 100:
            return status
    return None


def enhanced(code: int, text: str) -> str:
    """`find_status` as text: "5.1.1", or "" for none."""
    status = find_status(code, text)
    return status.text if status else ""
