"""Templates pushed from one server of the account to another."""

from __future__ import annotations

from postroom.actions.pushing import Pushed, ServersMissing, push_templates
from postroom.actions.template_rules import TemplateRefused
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.template_fields import kind_name, refused
from postroom.http.calls import Answer
from postroom.ids import ServerId

_SOURCE, _DESTINATION = "SourceServerID", "DestinationServerID"


async def push(call: Call) -> Answer:
    """Make and change templates of a server as those of another are, or only say which."""
    fields = call.object(1109)
    if not fields.any_of((_SOURCE, _DESTINATION)):
        raise ApiError(1109)
    source, destination = (ServerId(fields.whole(name) or 0) for name in (_SOURCE, _DESTINATION))
    perform = fields.flag("PerformChanges") or False
    if source == destination:
        raise ApiError(1122, text=f"'{_DESTINATION}' must be another server than the source.")
    try:
        pushed = await push_templates(call.ctx, call.actor, call.owner, source, destination, perform=perform)
    except ServersMissing as error:
        raise ApiError(601, text=_missing(error)) from None
    except TemplateRefused as error:
        raise refused(error) from None
    return Answer({"TotalCount": len(pushed), "Templates": [_shown(one) for one in pushed]})


def _missing(error: ServersMissing) -> str:
    if error.source and error.destination:
        return "The source and destination servers were not found."
    return f"The {'source' if error.source else 'destination'} server was not found."


def _shown(one: Pushed) -> dict[str, object]:
    number = {} if one.template_id is None else {"TemplateId": one.template_id}
    return {
        "Action": "Create" if one.is_new else "Edit",
        **number,
        "Alias": one.head.alias,
        "Name": one.head.name,
        "TemplateType": kind_name(one.head.kind),
    }
