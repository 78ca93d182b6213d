"""The template calls: list, show, create, edit, delete, validate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from postroom.actions import templates
from postroom.actions.template_rules import MOST_BODY_CHARACTERS, TemplateRefused
from postroom.actions.templates import KIND, Wanted
from postroom.core.template import TemplateKind
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.template_fields import (
    KINDS,
    NAMES,
    WRITABLE,
    missing,
    model_of,
    read_changes,
    read_draft,
    refused,
    shown,
    shown_whole,
    sources_of,
    wanted,
)
from postroom.errors import NotFound
from postroom.http.calls import Answer
from postroom.templates.examine import Examination, Source, Verdict, examine
from postroom.templates.inline import InlineFailed
from postroom.templates.letter import PARTS, Letter, Sources, read
from postroom.templates.syntax import Problem

T = TypeVar("T")
_ALL = "All"


async def index(call: Call) -> Answer:
    """The server's templates, oldest first."""
    count, offset = call.page(1100)
    kind = call.asked.one_of("TemplateType", (_ALL, *KINDS), 1100) or _ALL
    found, total = await templates.list_templates(
        call.ctx,
        call.owner,
        call.server_id,
        kind=KINDS.get(kind),
        layout=call.asked.text("LayoutTemplate"),
        limit=count,
        offset=offset,
    )
    return Answer({"TotalCount": total, "Templates": [shown(one) for one in found]})


async def show(call: Call) -> Answer:
    """One template; by its number also one that was deleted, as long as it is kept."""
    which = _which(call)
    found = templates.get_template(call.ctx, call.owner, call.server_id, which, deleted=True)
    return Answer(shown_whole(await _or_refused(found, which)))


async def create(call: Call) -> Answer:
    """A new template or layout."""
    fields = _fields(call)
    made = templates.create_template(call.ctx, call.actor, call.owner, call.server_id, read_draft(fields))
    return Answer(shown(await _or_refused(made)))


async def edit(call: Call) -> Answer:
    """Some fields of a template changed."""
    which, fields = _which(call), call.object(1109)
    if not (fields.any_of(WRITABLE) or fields.sent("LayoutTemplate")):
        raise ApiError(1109)
    changed = templates.update_template(
        call.ctx, call.actor, call.owner, call.server_id, which, read_changes(fields)
    )
    return Answer(shown(await _or_refused(changed, which)))


async def delete(call: Call) -> Answer:
    """The template is used no more."""
    which = _which(call)
    gone = templates.delete_template(call.ctx, call.actor, call.owner, call.server_id, which)
    head = await _or_refused(gone, which)
    return Answer({"ErrorCode": 0, "Message": f"Template {head.template_id} removed."})


async def validate(call: Call) -> Answer:
    """What is wrong with subject and bodies, the model they want, and how they look with it."""
    fields = _fields(call)
    kind = KINDS[fields.one_of("TemplateType", KINDS, 1122) or "Standard"]
    sources, model = sources_of(fields), model_of(fields, "TestRenderModel") or {}
    inlining = fields.flag("InlineCssForHtmlTestRender")
    _check_examined(sources, kind)
    around = await _layout(call, fields, kind)
    examined = await asyncio.to_thread(
        _examine, sources, around, model, is_layout=kind is TemplateKind.LAYOUT
    )
    verdicts = dict(examined.verdicts)
    if inlining is not False and (html := verdicts.get("html")) is not None:
        verdicts["html"] = await _inlined(call, html)
    told = {NAMES[part]: _told(verdicts.get(part)) for part in PARTS}
    valid = all(verdict.is_valid for verdict in verdicts.values())
    return Answer({"AllContentIsValid": valid, **told, "SuggestedTemplateModel": examined.model})


def _fields(call: Call) -> Fields:
    """Those of a body that says something of a template. Raises ApiError(1109)."""
    fields = call.object(1109)
    if not fields.any_of(WRITABLE):
        raise ApiError(1109)
    return fields


def _which(call: Call) -> Wanted:
    return wanted(call.params["template"])


async def _or_refused(done: Awaitable[T], which: Wanted = "") -> T:
    try:
        return await done
    except TemplateRefused as error:
        raise refused(error) from None
    except NotFound as error:
        if error.kind != KIND:
            raise
        raise missing(which) from None


def _check_examined(sources: Sources, kind: TemplateKind) -> None:
    """What cannot be examined at all. Raises ApiError(1109, 1121, 1123)."""
    if not sources.parts():
        raise ApiError(1109)
    if kind is TemplateKind.LAYOUT and sources.subject is not None:
        raise ApiError(1123, NAMES["subject"])
    for part, source in sources.parts().items():
        if len(source) > MOST_BODY_CHARACTERS:
            raise ApiError(1121, NAMES[part])


async def _layout(call: Call, fields: Fields, kind: TemplateKind) -> Sources | None:
    """The layout that is asked for. Raises ApiError(1101, 1123)."""
    alias = fields.text("LayoutTemplate")
    if alias is None:
        return None
    if kind is TemplateKind.LAYOUT:
        raise ApiError(1123, "LayoutTemplate")
    try:
        found = await templates.get_template(call.ctx, call.owner, call.server_id, alias)
    except NotFound as error:
        if error.kind != KIND:
            raise
        raise ApiError(1101, "LayoutTemplate") from None
    if found.head.kind is not TemplateKind.LAYOUT:
        raise ApiError(1101, "LayoutTemplate")
    return found.sources


def _examine(
    sources: Sources, around: Sources | None, model: Mapping[str, object], *, is_layout: bool
) -> Examination:
    layout = Letter({}) if around is None else read(around, layout=True)
    return examine(
        {
            part: Source(source, part == "html", is_layout, layout.parts.get(part))
            for part, source in sources.parts().items()
        },
        model,
    )


async def _inlined(call: Call, verdict: Verdict) -> Verdict:
    if verdict.rendered is None:
        return verdict
    try:
        return Verdict((), await call.ctx.inliner.inline(verdict.rendered))
    except InlineFailed as error:
        return Verdict((Problem(f"The CSS cannot be moved into the elements: {error}."),), None)


def _told(verdict: Verdict | None) -> dict[str, object] | None:
    if verdict is None:
        return None
    return {
        "ContentIsValid": verdict.is_valid,
        "ValidationErrors": [
            {"Message": one.message, "Line": one.line, "CharacterPosition": one.character}
            for one in verdict.problems
        ],
        "RenderedContent": verdict.rendered,
    }
