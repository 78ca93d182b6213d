"""The server calls: `/servers` for an account, `/server` for a server's own token."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.actions import server_secrets, servers
from postroom.actions.changes import UNSET, given
from postroom.actions.servers import (
    DeletionOff,
    InboundDomainTaken,
    NameTaken,
    PlanLimit,
    ServerChanges,
    ServerRules,
)
from postroom.core.key import Scope
from postroom.core.server import Owner, Server
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.server_changes import WRITABLE, read_changes
from postroom.dialects.postmark.server_fields import shown
from postroom.errors import Invalid, PostroomError
from postroom.http.calls import Answer
from postroom.ids import ServerId

RULES = ServerRules(unique_name=True, within_plan=True, with_token=True)
KIND = "server"
_CODES: dict[type[PostroomError], int] = {
    NameTaken: 603,
    InboundDomainTaken: 602,
    PlanLimit: 614,
    DeletionOff: 604,
}
_KNOWN = (NameTaken, InboundDomainTaken, PlanLimit, DeletionOff)


async def index(call: Call) -> Answer:
    """The account's servers, oldest first; `name` is a part of it in any case."""
    count, offset = call.page(600)
    named = call.asked.text("name") or ""
    found, total = await servers.list_servers(
        call.ctx, call.owner, containing=named, limit=count, offset=offset
    )
    return Answer({"TotalCount": total, "Servers": await _shown(call, found)})


async def show(call: Call) -> Answer:
    """One server of the account."""
    return Answer(await _one(call, await servers.get_server(call.ctx, call.owner, _number(call))))


async def create(call: Call) -> Answer:
    """A new server with its three streams and a token that works."""
    call.object(609)
    wanted = read_changes(call)
    try:
        made = await servers.create_server(
            call.ctx,
            call.actor,
            call.key.account_id,
            given(wanted.name, ""),
            sandbox=given(wanted.sandbox, False),
            smtp_enabled=given(wanted.smtp_enabled, True),
            inbound_domain=given(wanted.inbound_domain, ""),
            options={name: value for name, value in wanted.options.items() if value is not None},
            hook_logins=wanted.hook_logins,
            rules=RULES,
        )
    except (*_KNOWN, Invalid) as error:
        raise _refused(error) from None
    return Answer(await _one(call, made))


async def update(call: Call) -> Answer:
    """Some fields of one server of the account changed; the whole of it comes back."""
    return await _update(call, _number(call))


async def delete(call: Call) -> Answer:
    """The server with all that is its is gone; its mail stops before this is answered."""
    try:
        gone = await servers.delete_server(call.ctx, call.actor, call.owner, _number(call), RULES)
    except DeletionOff as error:
        raise _refused(error) from None
    return Answer({"ErrorCode": 0, "Message": f"Server {gone.name} removed."})


async def show_own(call: Call) -> Answer:
    """The token's own server."""
    return Answer(await _one(call, await servers.get_server(call.ctx, call.owner, call.server_id)))


async def update_own(call: Call) -> Answer:
    """Some fields of the token's own server changed."""
    return await _update(call, call.server_id)


async def _update(call: Call, server_id: ServerId) -> Answer:
    if not call.object(609).any_of(WRITABLE):
        raise ApiError(609)
    current = await servers.get_server(call.ctx, call.owner, server_id)
    secrets = await server_secrets.secrets_of(call.ctx, call.key.account_id, [server_id])
    wanted = read_changes(call, current, secrets[server_id])
    changes = ServerChanges(
        name=wanted.name,
        smtp_enabled=wanted.smtp_enabled,
        inbound_domain=wanted.inbound_domain,
        sandbox=UNSET,
        options=wanted.options,
        hook_logins=wanted.hook_logins,
    )
    owner = Owner(call.key.account_id, call.key.server_id)
    try:
        changed = await servers.update_server(call.ctx, call.actor, owner, server_id, changes, RULES)
    except (*_KNOWN, Invalid) as error:
        raise _refused(error) from None
    return Answer(await _one(call, changed))


def _refused(error: PostroomError) -> ApiError:
    """An action's error in the product's words."""
    if not isinstance(error, Invalid):
        return ApiError(_CODES[type(error)])
    first = error.errors[0]
    if first.field == "name":
        return ApiError(608, first.reason)
    if first.field == "inbound_domain":
        return ApiError(608, text=f"'InboundDomain' {first.reason}.")
    return ApiError(403, first.field)


def _number(call: Call) -> ServerId:
    return ServerId(call.id(KIND))


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
