"""The long form of a refusal, in the fields of a delivery status notification (RFC 3464 2.3)."""

from __future__ import annotations

import re

_BREAKS = re.compile(r"[\r\n]+[ \t]*")
_SMTP = range(400, 600)


def refusal_report(
    recipient: str, *, code: int, enhanced: str, text: str, message_id: str, http: bool
) -> str:
    """What was said of one recipient. http: by an API, and `code` is an HTTP status; code 0: by nobody."""
    status = enhanced or ("5.0.0" if code >= 500 or http else "4.0.0")
    fields = [
        ("Original-Message-ID", message_id),
        ("Final-Recipient", f"rfc822; {recipient}"),
        ("Action", "failed"),
        ("Status", status),
        ("Diagnostic-Code", diagnostic(code, text, http=http)),
    ]
    return "".join(f"{name}: {_one_line(value)}\r\n" for name, value in fields if value)


def diagnostic(code: int, text: str, *, http: bool) -> str:
    """Who said it and in which words: `smtp; 550 5.1.1 No such user`."""
    if not code:
        return f"x-postroom; {text}"
    said = text if text.startswith(str(code)) else f"{code} {text}"
    return f"{'http' if http else 'smtp'}; {said}".rstrip()


def _one_line(text: str) -> str:
    return _BREAKS.sub(" ", text)
