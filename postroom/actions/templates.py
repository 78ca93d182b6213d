"""Templates of a server: made, looked at, changed, deleted, and read for sending.

A template and its layout are joined by number, so that either may get another alias. A deleted template can
still be looked at by its number, until housekeeping takes it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from postroom.actions.changes import UNSET, Unset, given
from postroom.actions.checks import is_id, page
from postroom.actions.context import Actor, Context
from postroom.actions.servers import locked, owned
from postroom.actions.template_rules import (
    LARGE_CHARACTERS,
    MOST_TEMPLATES,
    Refusal,
    TemplateDraft,
    TemplateRefused,
    check,
    check_fields,
)
from postroom.actions.trail import difference, present
from postroom.core.server import Owner
from postroom.core.template import Template, TemplateHead, TemplateKind
from postroom.errors import NotFound
from postroom.ids import AccountId, ServerId, TemplateId
from postroom.storage import audit, templates
from postroom.storage.interface import Work, now
from postroom.templates.letter import Sources

KIND = "template"
Wanted = TemplateId | str  # a number or an alias
_NEW = TemplateId(0)


@dataclass(frozen=True)
class TemplateChanges:
    """Fields to change; UNSET leaves one as it is. layout: the alias of one, None for none."""

    name: str | Unset = UNSET
    alias: str | Unset | None = UNSET
    layout: str | Unset | None = UNSET
    kind: TemplateKind | Unset = UNSET
    subject: str | Unset | None = UNSET
    html: str | Unset | None = UNSET
    text: str | Unset | None = UNSET

    def made_of(self, current: Template) -> TemplateDraft:
        """The template as it would be. Raises TemplateRefused for another kind."""
        head, sources = current.head, current.sources
        if given(self.kind, head.kind) is not head.kind:
            raise TemplateRefused(Refusal.INVALID, "kind", "cannot be changed")
        return TemplateDraft(
            given(self.name, head.name),
            head.kind,
            Sources(
                given(self.subject, sources.subject),
                given(self.html, sources.html),
                given(self.text, sources.text),
            ),
            given(self.alias, head.alias),
            given(self.layout, head.layout_alias),
        )


@dataclass(frozen=True)
class Usable:
    """What a message is made from: a template's sources and, where it is in one, its layout's."""

    sources: Sources
    layout: Sources | None = field(default=None)


async def create_template(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, draft: TemplateDraft
) -> TemplateHead:
    """A new template. Raises TemplateRefused; NotFound(server)."""
    await _check(draft)

    def work() -> Work[TemplateHead]:
        account_id = yield from locked(owner, server_id)
        at = yield from now()
        return (yield from add(account_id, server_id, actor, draft, at))

    return await ctx.store.write(work, size_bytes=draft.sources.characters)


async def update_template(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, wanted: Wanted, changes: TemplateChanges
) -> TemplateHead:
    """Change some fields; what asks for no change changes nothing. Raises TemplateRefused, NotFound."""
    # Checked before the lock is taken, on what is there then; the fields that are given stay what they are.
    await _check(changes.made_of(await get_template(ctx, owner, server_id, wanted)))

    def work() -> Work[TemplateHead]:
        account_id = yield from locked(owner, server_id)
        current = yield from _found(account_id, server_id, wanted)
        at = yield from now()
        return (yield from change(current, actor, changes.made_of(current), at))

    return await ctx.store.write(work)


async def delete_template(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, wanted: Wanted
) -> TemplateHead:
    """It is used no more. Raises TemplateRefused for a layout that is in use; NotFound."""

    def work() -> Work[TemplateHead]:
        account_id = yield from locked(owner, server_id)
        current = yield from _found(account_id, server_id, wanted)
        head = current.head
        if (yield from templates.count_inside(account_id, server_id, head.template_id)):
            raise TemplateRefused(Refusal.NEEDED, "layout")
        at = yield from now()
        yield from templates.mark_deleted(head, at)
        yield from _audit(head, at, actor, "template.delete", {"before": present(_shown(current))})
        return head

    return await ctx.store.write(work)


async def get_template(
    ctx: Context, owner: Owner, server_id: ServerId, wanted: Wanted, *, deleted: bool = False
) -> Template:
    """One template; deleted: by its number also one that was deleted. Raises NotFound."""

    def work() -> Work[Template]:
        server = yield from owned(owner, server_id)
        return (yield from _found(server.account_id, server_id, wanted, deleted=deleted))

    return await ctx.store.read(work)


async def list_templates(
    ctx: Context,
    owner: Owner,
    server_id: ServerId,
    *,
    kind: TemplateKind | None = None,
    layout: str | None = None,
    limit: int = 500,
    offset: int = 0,
) -> tuple[list[TemplateHead], int]:
    """The server's templates, oldest first, and their number without limit and offset. Raises NotFound."""
    limit, offset = page(limit, offset)

    def work() -> Work[tuple[list[TemplateHead], int]]:
        server = yield from owned(owner, server_id)
        return (
            yield from templates.list_of(
                server.account_id, server_id, kind=kind, layout=layout, limit=limit, offset=offset
            )
        )

    return await ctx.store.read(work)


async def usable_templates(
    ctx: Context, account_id: AccountId, server_id: ServerId, wanted: Collection[Wanted]
) -> Mapping[Wanted, Usable]:
    """Those of these that messages can be made from: no layouts, none that were deleted."""

    def work() -> Work[dict[Wanted, Usable]]:
        found: dict[Wanted, Usable] = {}
        layouts: dict[TemplateId, Template | None] = {}
        for one in wanted:
            if not _can_be(one):
                continue
            template = yield from templates.get(account_id, server_id, one)
            if template is None or template.head.kind is TemplateKind.LAYOUT:
                continue
            around = template.head.layout_id
            if around is not None and around not in layouts:
                layouts[around] = yield from templates.get(account_id, server_id, around)
            layout = None if around is None else layouts[around]
            found[one] = Usable(template.sources, None if layout is None else layout.sources)
        return found

    return await ctx.store.read(work)


def add(
    account_id: AccountId, server_id: ServerId, actor: Actor, draft: TemplateDraft, at_us: int
) -> Work[TemplateHead]:
    """A checked draft as a new template of a locked server. Raises TemplateRefused."""
    _, count = yield from templates.list_of(account_id, server_id, limit=0)
    if count >= MOST_TEMPLATES:
        raise TemplateRefused(Refusal.TOO_MANY, "name")
    head = TemplateHead(account_id, _NEW, server_id, draft.kind, draft.name.strip(), draft.alias, None, None)
    head = yield from _placed(head, draft)
    head = replace(head, template_id=(yield from templates.add(head, draft.sources, at_us)))
    made = Template(head, draft.sources)
    yield from _audit(head, at_us, actor, "template.create", {"after": present(_shown(made))})
    return head


def change(current: Template, actor: Actor, draft: TemplateDraft, at_us: int) -> Work[TemplateHead]:
    """A template of a locked server as a checked draft has it. Raises TemplateRefused."""
    check_fields(draft)  # what was merged meanwhile was never seen as a whole
    head = replace(current.head, name=draft.name.strip(), alias=draft.alias)
    head = yield from _placed(head, draft)
    if head.alias is None and current.head.alias is not None:
        inside = yield from templates.count_inside(head.account_id, head.server_id, head.template_id)
        if inside:
            raise TemplateRefused(Refusal.NEEDED, "alias")
    changed = Template(head, draft.sources)
    told = difference(_shown(current), _shown(changed))
    if told is not None:
        yield from templates.change(head, draft.sources, at_us)
        yield from _audit(head, at_us, actor, "template.update", told)
    return head


def _placed(head: TemplateHead, draft: TemplateDraft) -> Work[TemplateHead]:
    """With its layout's number; its alias is its own. Raises TemplateRefused."""
    if draft.alias is not None:
        other = yield from templates.get(head.account_id, head.server_id, draft.alias)
        if other is not None and other.head.template_id != head.template_id:
            raise TemplateRefused(Refusal.TAKEN, "alias")
    if draft.layout is None:
        return replace(head, layout_id=None, layout_alias=None)
    layout = yield from templates.get(head.account_id, head.server_id, draft.layout)
    if layout is None or layout.head.kind is not TemplateKind.LAYOUT:
        raise TemplateRefused(Refusal.NO_LAYOUT, "layout")
    return replace(head, layout_id=layout.head.template_id, layout_alias=layout.head.alias)


async def _check(draft: TemplateDraft) -> None:
    if draft.sources.characters > LARGE_CHARACTERS:
        await asyncio.to_thread(check, draft)
    else:
        check(draft)


def _can_be(wanted: Wanted) -> bool:
    """Whether it can name a template at all."""
    return "\0" not in wanted if isinstance(wanted, str) else is_id(wanted)


def _found(
    account_id: AccountId, server_id: ServerId, wanted: Wanted, *, deleted: bool = False
) -> Work[Template]:
    found = None
    if _can_be(wanted):
        found = yield from templates.get(account_id, server_id, wanted, deleted=deleted)
    if found is None:
        raise NotFound(KIND)
    return found


def _shown(template: Template) -> dict[str, object]:
    head = template.head
    return {
        "name": head.name,
        "alias": head.alias,
        "type": head.kind.value,
        "layout": head.layout_id,
        **dict.fromkeys(("subject", "html", "text")),
        **{name: _digest(source) for name, source in template.sources.parts().items()},
    }


def _digest(source: str) -> str:
    """What the audit trail has of a source, which may be large: enough to tell two from each other."""
    return f"{len(source)} characters, sha256 {hashlib.sha256(source.encode()).hexdigest()[:16]}"


def _audit(
    head: TemplateHead, at_us: int, actor: Actor, action: str, detail: Mapping[str, object]
) -> Work[None]:
    told = {"server": head.server_id, **detail}
    yield from audit.add(head.account_id, at_us, actor, action, f"{KIND} {head.template_id}", told)
