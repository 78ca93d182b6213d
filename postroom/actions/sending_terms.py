"""What of a server decides how a message for it is read: its streams, and what it tracks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.actions.context import Context
from postroom.core.stream import StreamType
from postroom.errors import NotFound
from postroom.ids import AccountId, ServerId
from postroom.storage import servers, streams
from postroom.storage.interface import Work


@dataclass(frozen=True)
class SendingTerms:
    """streams: those that are not archived, by name. options: what dialects keep with the server.

    smtp_enabled: whether its keys may submit by SMTP.
    """

    streams: Mapping[str, StreamType]
    options: Mapping[str, object] = field(default_factory=dict)
    smtp_enabled: bool = True


async def sending_terms(ctx: Context, account_id: AccountId, server_id: ServerId) -> SendingTerms:
    """Those of a server. Raises NotFound(server)."""

    def work() -> Work[SendingTerms]:
        server = yield from servers.get(account_id, server_id)
        if server is None:
            raise NotFound("server")
        found = yield from streams.list_of(account_id, server_id)
        return SendingTerms(
            {one.stream: one.type for one in found if one.archived_at_us is None},
            server.options,
            server.smtp_enabled,
        )

    return await ctx.store.read(work)
