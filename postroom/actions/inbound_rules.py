"""Whose mail a server takes none of: addresses and domains, kept for when inbound mail is read."""

from __future__ import annotations

from postroom.actions.context import Actor, Context
from postroom.core.inbound_rule import InboundRule, InboundRuleId
from postroom.core.server import Owner
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ids import ServerId
from postroom.mail.address import parse_address, parse_domain
from postroom.storage import audit, inbound_rules, servers
from postroom.storage.interface import Work, now

KIND = "inbound rule"
MOST = 10_000
__all__ = ["MOST", "InboundRule", "InboundRuleId", "add", "list_rules", "remove"]


async def list_rules(
    ctx: Context, owner: Owner, server_id: ServerId, *, limit: int, offset: int
) -> tuple[list[InboundRule], int]:
    """One page of a server's rules, by name, and how many there are. Raises NotFound(server)."""

    def work() -> Work[tuple[list[InboundRule], int]]:
        yield from _checked(owner, server_id)
        return (yield from inbound_rules.page_of(owner.account_id, server_id, limit=limit, offset=offset))

    return await ctx.store.read(work)


async def add(ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, text: str) -> InboundRule:
    """Take no more mail from an address, or from anybody at a domain.

    Raises Invalid(rule): it is neither, or the server has 10,000; Conflict: it is there; NotFound(server).
    """
    text = text.strip()
    rule = parse_address(text, "rule").key if "@" in text else parse_domain(text, "rule").lower()

    def work() -> Work[InboundRule]:
        yield from _checked(owner, server_id)
        _, count = yield from inbound_rules.page_of(owner.account_id, server_id, limit=0, offset=0)
        if count >= MOST:
            raise Invalid("rule", f"is one more than {MOST}")
        at_us = yield from now()
        made = yield from inbound_rules.add(owner.account_id, server_id, rule, at_us)
        if made is None:
            raise Conflict("the server has this rule")
        yield from _audit(made, at_us, actor, "inbound_rule.create")
        return made

    return await ctx.store.write(work)


async def remove(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, rule_id: InboundRuleId
) -> InboundRule:
    """Take mail from there again; the rule as it was. Raises NotFound(inbound rule, server)."""

    def work() -> Work[InboundRule]:
        yield from _checked(owner, server_id)
        gone = yield from inbound_rules.remove(owner.account_id, server_id, rule_id)
        if gone is None:
            raise NotFound(KIND)
        at_us = yield from now()
        yield from _audit(gone, at_us, actor, "inbound_rule.delete")
        return gone

    return await ctx.store.write(work)


def _checked(owner: Owner, server_id: ServerId) -> Work[None]:
    if not owner.sees_server(server_id) or (yield from servers.get(owner.account_id, server_id)) is None:
        raise NotFound("server")


def _audit(rule: InboundRule, at_us: int, actor: Actor, action: str) -> Work[None]:
    target, detail = f"server {rule.server_id}", {"rule": rule.rule_id, "value": rule.rule}
    yield from audit.add(rule.account_id, at_us, actor, action, target, detail)
