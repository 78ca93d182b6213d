"""A domain's DKIM key as it is stored, without its private half: whose it is, and whether it signs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from postroom.ids import AccountId, ServerId
from postroom.mail.dkim_keys import Algorithm, record_name, record_value

DkimKeyId = NewType("DkimKeyId", int)


class DkimState(StrEnum):
    """new → active → stopped → gone; a stopped one may be activated again until it is retired."""

    NEW = "new"  # made; its record is on its way into DNS
    ACTIVE = "active"  # signs
    STOPPED = "stopped"  # signs no more; its record stays for mail that is still being judged


@dataclass(frozen=True)
class DkimKey:
    """One key. Times are microseconds since 1970.

    account_id 0: for every account that may use the domain; server_id None: for all servers of the account.
    seen_at_us: when its record was first found in DNS.
    """

    account_id: AccountId
    key_id: DkimKeyId
    server_id: ServerId | None
    domain: str  # A-label
    selector: str
    algorithm: Algorithm
    public_key: str  # base64, the p= of its record
    created_at_us: int
    seen_at_us: int | None = None
    activated_at_us: int | None = None
    stopped_at_us: int | None = None

    @property
    def state(self) -> DkimState:
        """Where it is on its way."""
        if self.stopped_at_us is not None:
            return DkimState.STOPPED
        return DkimState.NEW if self.activated_at_us is None else DkimState.ACTIVE

    @property
    def record_name(self) -> str:
        """Where its record stands in DNS."""
        return record_name(self.selector, self.domain)

    @property
    def record_value(self) -> str:
        """What the record says, in one line."""
        return record_value(self.algorithm, self.public_key)
