"""An identity: an address or a domain that may appear in From, with its proof."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from postroom.ids import AccountId, ServerId

IdentityId = NewType("IdentityId", int)

EVERYBODY = AccountId(0)  # the account id of what the operator trusts for every account


class IdentityKind(StrEnum):
    ADDRESS = "address"
    DOMAIN = "domain"  # this domain itself; its subdomains are proven on their own


class Proof(StrEnum):
    """Why we believe it."""

    OPERATOR = "operator"  # the operator's word
    MAIL = "mail"  # somebody answered a mail sent there
    DNS = "dns"  # a record in its zone


@dataclass(frozen=True)
class Identity:
    """One identity as stored. `value` is lower case with the domain as A-label.

    `server_id` None: for all servers of the account; account 0: for every account.
    """

    account_id: AccountId
    identity_id: IdentityId
    server_id: ServerId | None
    kind: IdentityKind
    value: str
    proof: Proof
    created_at_us: int
