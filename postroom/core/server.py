"""An account, its servers, and whose things a caller may see.

An account is the customer. A server is the container below it: streams, keys, suppressions, connections
and statistics of one product or client. What belongs to neither server nor campaign is shared by the account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from postroom.ids import AccountId, ServerId


@dataclass(frozen=True)
class Account:
    """A customer. `had_connection`: a shared connection was made once, so mail is never captured again.

    max_servers: how many its plan allows, None: any number. may_delete_servers: whether its keys may.
    """

    account_id: AccountId
    name: str
    had_connection: bool
    created_at_us: int
    max_servers: int | None = None
    may_delete_servers: bool = True


@dataclass(frozen=True)
class Server:
    """A container of one account. `default_sender` is a mailbox, used where a message names no From.

    `sandbox`: its mail is captured, never sent. `smtp_enabled`: whether its keys may submit by SMTP.
    `inbound_hash`: local part of the address its inbound mail comes to; `inbound_domain`: a domain where any
    local part is the server's, with `*.` before it all below, "" for none. `options`: fields of a way in that
    are kept and shown.
    """

    account_id: AccountId
    server_id: ServerId
    name: str
    default_sender: str | None
    sandbox: bool
    had_connection: bool
    created_at_us: int
    updated_at_us: int
    smtp_enabled: bool = True
    inbound_hash: str = ""
    inbound_domain: str = ""
    options: Mapping[str, object] = field(default_factory=dict)


class Owner(msgspec.Struct, frozen=True):
    """Whose things a caller may see and make; anything else does not exist for it.

    With `server_id`: that server's. Without: what the account's servers share. `whole_account` (the
    operator on the command line): everything of the account, its servers' things included.
    """

    account_id: AccountId
    server_id: ServerId | None = None
    whole_account: bool = False

    def sees_server(self, server_id: ServerId) -> bool:
        """Whether this server of the account exists for the caller; an account's key sees all of them."""
        return self.server_id is None or self.server_id == server_id
