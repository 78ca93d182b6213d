"""Sending with templates: one message, or up to 500 in one request.

`POSTMARK_API_TEST` has no server, so no templates: all else of the message is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from postroom.actions import templates
from postroom.actions.submission import Submission
from postroom.actions.templates import Wanted
from postroom.dialects.postmark.bodies import Bodies
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.mail_fields import (
    Sending,
    check_types,
    envelope_of,
    saying,
    stream_of,
)
from postroom.dialects.postmark.rendering import Letters, check_model
from postroom.dialects.postmark.sending import MOST_AT_ONCE, Reader, beside, send, send_all, sending_of
from postroom.dialects.postmark.template_fields import missing, model_of
from postroom.http.calls import Answer
from postroom.ids import TemplateId

_NO_NAME = "Provide either the 'TemplateId' or the 'TemplateAlias' of the template to send with."
_BODIES = ("Subject", "HtmlBody", "TextBody")


@dataclass(frozen=True)
class Asked:
    """Which template a message names, what it is filled with, and whether its CSS is moved."""

    which: Wanted | None
    model: Mapping[str, object] | None
    inline_css: bool


async def with_template(call: Call) -> Answer:
    """Accept one message made from a template."""
    fields = call.object(402)
    sending = await sending_of(call)
    return Answer(await send(call, sending, fields, await _reader(call, [fields])))


async def batch_with_templates(call: Call) -> Answer:
    """Accept up to 500 messages made from templates, each by itself."""
    given = call.object(402).value("Messages")
    if not isinstance(given, list):
        raise ApiError(403, "Messages")
    if len(given) > MOST_AT_ONCE:
        raise ApiError(410)
    named = [Fields(one) for one in given if isinstance(one, Mapping) and _unambiguous(one)]
    return await send_all(call, given, await _reader(call, named))


def asked_of(fields: Fields) -> Asked:
    """What a message says of its template; the number counts where there are both. Raises ApiError(403)."""
    number, alias = fields.whole("TemplateId"), fields.text("TemplateAlias")
    inline_css = fields.flag("InlineCss")
    return Asked(
        TemplateId(number) if number else alias,
        model_of(fields, "TemplateModel"),
        inline_css is not False,
    )


def check_asked(fields: Fields, asked: Asked) -> tuple[Wanted, Mapping[str, object]]:
    """The template and its model, where both are there. Raises ApiError(1101, 1120, 1122, 1123)."""
    for name in _BODIES:
        if name in fields:
            raise ApiError(1123, name)
    if asked.which is None:
        raise ApiError(1101, text=_NO_NAME)
    if asked.model is None:
        raise ApiError(1120, "TemplateModel")
    check_model(asked.model)
    return asked.which, asked.model


async def _reader(call: Call, messages: Iterable[Fields]) -> Reader:
    """Reads messages made from templates, which are looked up all at once."""
    wanted = {which for one in messages if (which := _named(one)) is not None}
    found: Mapping[Wanted, templates.Usable] = {}
    if wanted and not call.testing:
        found = await templates.usable_templates(call.ctx, call.key.account_id, call.server_id, wanted)
    letters = Letters(call.ctx, found)

    async def read(sending: Sending, fields: Fields) -> Submission:
        check_types(fields)
        asked = asked_of(fields)
        stream, purpose = stream_of(fields, sending.terms)
        envelope = await beside(call, fields, lambda: envelope_of(sending, fields, stream, purpose))
        which, model = check_asked(fields, asked)
        if call.testing:
            return saying(envelope, Bodies("", None, ""))
        says = await letters.filled(which, model, inline_css=asked.inline_css)
        if says is None:
            raise missing(which)
        return saying(envelope, says)

    return read


def _named(fields: Fields) -> Wanted | None:
    """Which template; None where that is not said, or said wrongly, which is told when it is read."""
    try:
        return asked_of(fields).which
    except ApiError:
        return None


def _unambiguous(given: Mapping[str, object]) -> bool:
    """Whether `Fields` can read it; of what it cannot the item says so."""
    return len({name.lower() for name in given}) == len(given)
