"""An account, its servers, and whose things a caller may see.

An account is the customer. A server is the container below it: streams, keys, suppressions, connections
and statistics of one product or client. What belongs to neither server nor campaign is shared by the account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.ids import AccountId, ServerId


@dataclass(frozen=True)
class Account:
    """A customer. `had_connection`: a shared connection was made once, so mail is never captured again."""

    account_id: AccountId
    name: str
    had_connection: bool
    created_at_us: int


@dataclass(frozen=True)
class Server:
    """A container of one account. `default_sender` is a mailbox, used where a message names no From.

    `sandbox`: its mail is captured, never sent. `options`: fields of a way in that are kept and shown.
    """

    account_id: AccountId
    server_id: ServerId
    name: str
    default_sender: str | None
    sandbox: bool
    had_connection: bool
    created_at_us: int
    updated_at_us: int
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Owner:
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
