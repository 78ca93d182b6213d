"""Templates of one server pushed to another of the account: matched by alias, made or changed there."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.actions.checks import is_id
from postroom.actions.context import Actor, Context
from postroom.actions.servers import locked
from postroom.actions.template_rules import Refusal, TemplateDraft, TemplateRefused
from postroom.actions.templates import add, change
from postroom.core.server import Owner
from postroom.core.template import Template, TemplateHead, TemplateKind
from postroom.errors import NotFound
from postroom.ids import AccountId, ServerId, TemplateId
from postroom.storage import servers, templates
from postroom.storage.interface import Work, now

_ALL = 10_000  # more than any server has


@dataclass(frozen=True)
class Pushed:
    """One template that is made or changed. template_id: at the destination; None where it is to be made."""

    head: TemplateHead
    is_new: bool
    template_id: TemplateId | None


class ServersMissing(NotFound):
    """Of the two servers not both are the account's."""

    def __init__(self, *, source: bool, destination: bool) -> None:
        self.source, self.destination = source, destination
        super().__init__("server")


async def push_templates(
    ctx: Context, actor: Actor, owner: Owner, source: ServerId, destination: ServerId, *, perform: bool
) -> list[Pushed]:
    """What of the source's templates is made and changed at the destination, layouts first; all or nothing.

    Those without an alias stay where they are. perform: else it is only looked at. Raises ServersMissing,
    TemplateRefused.
    """

    def work() -> Work[list[Pushed]]:
        yield from _both(owner, source, destination)
        if perform:
            yield from locked(owner, destination)
        found = yield from _aliased(owner.account_id, source)
        if not found:
            raise TemplateRefused(Refusal.NOTHING_TO_PUSH, "alias")
        return (yield from _all_pushed(actor, found, destination, perform=perform))

    return await (ctx.store.write(work) if perform else ctx.store.read(work))


def _all_pushed(
    actor: Actor, found: list[Template], destination: ServerId, *, perform: bool
) -> Work[list[Pushed]]:
    pushed: list[Pushed] = []
    for template in found:
        one = yield from _pushed(actor, template, destination, perform=perform)
        pushed.append(one)
    return pushed


def _pushed(actor: Actor, template: Template, destination: ServerId, *, perform: bool) -> Work[Pushed]:
    head = template.head
    assert head.alias is not None
    there = yield from templates.get(head.account_id, destination, head.alias)
    if there is not None and there.head.kind is not head.kind:
        raise TemplateRefused(Refusal.OTHER_KIND, "kind")
    number = None if there is None else there.head.template_id
    if perform:
        draft = TemplateDraft(head.name, head.kind, template.sources, head.alias, head.layout_alias)
        at = yield from now()
        if there is None:
            number = (yield from add(head.account_id, destination, actor, draft, at)).template_id
        else:
            yield from change(there, actor, draft, at)
    return Pushed(head, there is None, number)


def _both(owner: Owner, source: ServerId, destination: ServerId) -> Work[None]:
    known = []
    for server_id in (source, destination):
        seen = is_id(server_id) and owner.sees_server(server_id)
        known.append(seen and (yield from servers.get(owner.account_id, server_id)) is not None)
    if not all(known):
        raise ServersMissing(source=not known[0], destination=not known[1])


def _aliased(account_id: AccountId, server_id: ServerId) -> Work[list[Template]]:
    """The server's templates that have an alias, layouts before what is in them."""
    heads, _ = yield from templates.list_of(account_id, server_id, limit=_ALL)
    heads.sort(key=lambda one: (one.kind is not TemplateKind.LAYOUT, one.template_id))
    found: list[Template] = []
    for head in heads:
        if head.alias is not None:
            template = yield from templates.get(account_id, server_id, head.template_id)
            if template is not None:
                found.append(template)
    return found
