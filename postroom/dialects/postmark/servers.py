"""The server calls: `/servers` for an account, `/server` for a server's own token."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.actions import server_secrets, servers
from postroom.core.key import Scope
from postroom.core.server import Server
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.server_fields import shown
from postroom.http.calls import Answer


async def show_own(call: Call) -> Answer:
    """The token's own server."""
    return Answer(await _one(call, await servers.get_server(call.ctx, call.owner, call.server_id)))


async def _one(call: Call, server: Server) -> dict[str, object]:
    return (await _shown(call, [server]))[0]


async def _shown(call: Call, found: Sequence[Server]) -> list[dict[str, object]]:
    """As answers have them. Tokens may do everything, so only a key that may so too is shown them."""
    numbers = [one.server_id for one in found]
    secrets = await server_secrets.secrets_of(call.ctx, call.key.account_id, numbers)
    see_tokens = call.key.may(Scope.ALL)
    return [
        shown(one, secrets[one.server_id], call.site, call.inbound_domain, tokens=see_tokens) for one in found
    ]
