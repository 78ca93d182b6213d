"""An inbound rule: an address or a domain whose mail a server takes none of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from postroom.ids import AccountId, ServerId

InboundRuleId = NewType("InboundRuleId", int)


@dataclass(frozen=True)
class InboundRule:
    """One rule of a server. rule: for comparing, in lower case, the domain as A-label."""

    rule_id: InboundRuleId
    account_id: AccountId
    server_id: ServerId
    rule: str
    created_at_us: int
