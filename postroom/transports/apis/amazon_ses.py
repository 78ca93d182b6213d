"""Amazon SES by its API, version 2: SendEmail with the finished message, GetAccount for the quota.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/. Requests are signed with Signature Version 4 by
botocore, which is imported with the first SES connection and not before: it takes 23 MB. SES cannot be
asked whether it took a message, so an unknown outcome ends by policy. Each message carries our reference
as a tag, which events of a configuration set repeat.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from postroom.core import need
from postroom.transports import api_outcomes as answers
from postroom.transports import outcomes
from postroom.transports.http_client import HttpReply, HttpRequest
from postroom.transports.http_url import Url
from postroom.transports.interface import (
    Checked,
    Envelope,
    Fault,
    Found,
    Outcome,
    Phase,
    Quota,
    Result,
)

_Sign = Callable[[str, str, Mapping[str, str], bytes], dict[str, str]]

TAG = "postroom"
_SEND, _ACCOUNT = "/v2/email/outbound-emails", "/v2/email/account"
_CLOCK = re.compile(r"signature expired|not yet current|request has expired|requesttimetooskewed", re.I)

_THROTTLED = frozenset(
    {"TooManyRequestsException", "ThrottlingException", "Throttling", "LimitExceededException"}
)
_MAY_NOT_SEND = frozenset({"AccountSuspendedException", "SendingPausedException"})
_KEY_REFUSED = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "ExpiredToken",
        "ExpiredTokenException",
        "OptInRequired",
    }
)
_DENIED = frozenset({"AccessDeniedException", "AccessDenied"})
_FROM_REFUSED = _DENIED | {"MailFromDomainNotVerifiedException"}  # a policy may allow one From, not another


@dataclass(frozen=True)
class SesKey:
    """Whose account and where."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    region: str
    configuration_set: str = ""


class AmazonSes:
    """Implements `api.Speaker`."""

    def __init__(self, key: SesKey, url: Url, *, most_bytes: int) -> None:
        self._key, self._url, self._most_bytes = key, url, most_bytes
        self._signer: _Sign | None = None

    def prepare(self) -> None:
        if self._signer is None:
            self._signer = _signer(self._key)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._key.secret_access_key, self._key.access_key_id)

    def send(self, envelope: Envelope) -> HttpRequest | Outcome:
        if envelope.utf8 or not envelope.recipient.isascii():
            text = "Amazon SES takes no address with letters beyond ASCII"
            return outcomes.cannot_carry(text, "5.6.7", need.SMTPUTF8)
        data = envelope.content()
        if len(data) > self._most_bytes:
            text = f"the message has {len(data)} bytes, Amazon SES takes at most {self._most_bytes}"
            return outcomes.cannot_carry(text, "5.3.4", need.larger_than(self._most_bytes))
        body: dict[str, object] = {
            "Content": {"Raw": {"Data": b64encode(data).decode("ascii")}},
            "Destination": {"ToAddresses": [envelope.recipient]},
        }
        if envelope.sender and envelope.sender.lower() != envelope.author.lower():
            body["FeedbackForwardingEmailAddress"] = envelope.sender
        if self._key.configuration_set:
            body["ConfigurationSetName"] = self._key.configuration_set
        if envelope.reference:
            body["EmailTags"] = [{"Name": TAG, "Value": envelope.reference}]
        return self._request("POST", _SEND, json.dumps(body).encode())

    def sent(self, reply: HttpReply, envelope: Envelope) -> Outcome:
        found = answers.read_object(reply)
        if reply.status == 200:
            remote_id = answers.text_of(found, "MessageId")
            if remote_id:
                return answers.sent(reply, remote_id, "taken by Amazon SES")
            return answers.by_status(reply, "", signed=False)
        kind, text = _error(reply, found)
        if kind in _FROM_REFUSED:
            return answers.refused(reply, Result.RETURNED, Fault.SENDER, text)
        if kind == "MessageRejected":
            fault = Fault.SENDER if _names_author(text, envelope.author) else Fault.MESSAGE
            result = Result.RETURNED if fault is Fault.SENDER else Result.BOUNCED
            return answers.refused(reply, result, fault, text, "5.6.0" if fault is Fault.MESSAGE else "")
        if kind == "NotFoundException":  # the configuration set
            return answers.resting(reply, text)
        return _of_account(reply, kind, text)

    def look(self) -> HttpRequest:
        return self._request("GET", _ACCOUNT, b"")

    def looked(self, reply: HttpReply) -> Checked:
        found = answers.read_object(reply)
        if reply.status == 200 and found:
            return _account(reply, found)
        kind, text = _error(reply, found)
        if kind in _DENIED:
            said = "the key is good; it may not read the sending quota (permission ses:GetAccount)"
            return Checked(answers.sent(reply, "", said))
        outcome = _of_account(reply, kind, text)
        if outcome.fault not in (Fault.CONNECTION, Fault.LOGIN) or outcome.result is not Result.RETURNED:
            outcome = answers.resting(reply, text or f"HTTP status {reply.status}")
        return Checked(outcomes.at(outcome, Phase.AUTH))

    def find(self, reference: str, *, bulk: bool) -> HttpRequest | None:
        return None

    def found(self, reply: HttpReply) -> Found | None:
        return None

    def _request(self, method: str, path: str, body: bytes) -> HttpRequest:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if body:
            headers["Content-Type"] = "application/json"
        self.prepare()
        assert self._signer is not None
        signed = self._signer(method, f"{self._url}{path}", headers, body)
        return HttpRequest(method, path, tuple(signed.items()), body)


def _signer(key: SesKey) -> _Sign:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    auth = SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "ses", key.region)

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        request = AWSRequest(method, url, headers=dict(headers), data=body)
        auth.add_auth(request)
        return dict(request.headers.items())

    return sign


def _error(reply: HttpReply, found: Mapping[str, object]) -> tuple[str, str]:
    """The error's name without its namespace, and what it says."""
    kind = reply.header("x-amzn-errortype") or answers.text_of(found, "__type", "code", "Code")
    kind = kind.split(":", 1)[0].rsplit("#", 1)[-1].strip()
    text = answers.text_of(found, "message", "Message")
    return kind, f"{kind}: {text}" if kind and text else kind or text


def _of_account(reply: HttpReply, kind: str, text: str) -> Outcome:
    """Errors that are about the key, the account or the service."""
    if _CLOCK.search(text):
        return answers.resting(reply, f"{text} (is this machine's clock right?)")
    if kind in _THROTTLED or reply.status == 429:
        return answers.resting(reply, text or "throttled")
    if kind in _MAY_NOT_SEND or kind in _KEY_REFUSED:
        return answers.login(reply, text)
    return answers.by_status(reply, text, signed=bool(kind))


def _names_author(text: str, author: str) -> bool:
    """Whether "Email address is not verified. The following identities failed ...: a@b" names the From."""
    named = {word.strip(".,;:<>()'\"").lower() for word in text.split()}
    author = author.lower()
    return bool(author) and bool({author, author.rpartition("@")[2]} & named)


def _account(reply: HttpReply, found: Mapping[str, object]) -> Checked:
    quota = _quota(found.get("SendQuota"))
    if found.get("SendingEnabled") is False:
        status = answers.text_of(found, "EnforcementStatus") or "paused"
        text = f"Amazon SES does not let this account send now ({status})"
        return Checked(outcomes.at(answers.login(reply, text), Phase.AUTH), quota)
    place = (
        "" if found.get("ProductionAccessEnabled") is not False else " (sandbox: to verified addresses only)"
    )
    text = f"the key is good{place}{_told(quota)}"
    return Checked(answers.sent(reply, "", text), quota)


def _quota(value: object) -> Quota | None:
    if not isinstance(value, dict):
        return None
    most, used, rate = (value.get(name) for name in ("Max24HourSend", "SentLast24Hours", "MaxSendRate"))
    return Quota(
        per_day=int(most) if _counts(most) else None,
        used=int(used) if _counts(used) else 0,
        per_second=float(rate) if _counts(rate) else None,
    )


def _counts(value: object) -> TypeGuard[float]:
    """A number that limits; -1 says unlimited. Out of a peer's JSON, so it may be anything."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15


def _told(quota: Quota | None) -> str:
    if quota is None:
        return ""
    day = "no daily quota" if quota.per_day is None else f"{quota.used} of {quota.per_day} sent in 24 hours"
    return f", {day}" + ("" if quota.per_second is None else f", {quota.per_second:g} a second")
