"""The inbound rule calls: addresses and domains a server takes no mail from."""

from __future__ import annotations

import re

from postroom.actions import inbound_rules
from postroom.actions.inbound_rules import InboundRule, InboundRuleId
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.errors import Conflict, Invalid
from postroom.http.calls import Answer

_NUMBER = re.compile(r"[0-9]{1,18}")


async def index(call: Call) -> Answer:
    """The server's rules, by name."""
    count, offset = call.page(800)
    rules, total = await inbound_rules.list_rules(
        call.ctx, call.owner, call.server_id, limit=count, offset=offset
    )
    return Answer({"TotalCount": total, "InboundRules": [_shown(one) for one in rules]})


async def create(call: Call) -> Answer:
    """A new rule."""
    rule = call.object(809).text("Rule")
    if rule is None:
        raise ApiError(809)
    try:
        return Answer(_shown(await inbound_rules.add(call.ctx, call.actor, call.owner, call.server_id, rule)))
    except Conflict:
        raise ApiError(810) from None
    except Invalid:
        raise ApiError(813) from None


async def delete(call: Call) -> Answer:
    """Take mail from there again."""
    number = call.params["id"]
    if not _NUMBER.fullmatch(number):
        raise ApiError(812)
    gone = await inbound_rules.remove(
        call.ctx, call.actor, call.owner, call.server_id, InboundRuleId(int(number))
    )
    return Answer({"ErrorCode": 0, "Message": f"Rule {gone.rule} removed."})


def _shown(rule: InboundRule) -> dict[str, object]:
    return {"ID": rule.rule_id, "Rule": rule.rule}
