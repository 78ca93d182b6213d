"""Templates in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from postroom.core.template import Template, TemplateHead, TemplateKind
from postroom.ids import AccountId, ServerId, TemplateId
from postroom.storage.interface import Work
from postroom.storage.tables import templates
from postroom.templates.letter import Sources

_layouts = templates.alias("layouts")
_HEAD = (
    *(templates.c.account_id, templates.c.template_id, templates.c.server_id, templates.c.kind),
    *(templates.c.name, templates.c.alias, templates.c.layout_id, templates.c.deleted_at),
    _layouts.c.alias.label("layout_alias"),
)
_WHOLE = (*_HEAD, templates.c.subject, templates.c.html, templates.c.text)


def alias_key(alias: str) -> str:
    """An alias for comparing."""
    return alias.lower()


def add(head: TemplateHead, sources: Sources, at_us: int) -> Work[TemplateId]:
    """Store a new one; the number in its head is still to come."""
    rows = yield (
        insert(templates)
        .values(
            account_id=head.account_id,
            server_id=head.server_id,
            kind=head.kind.value,
            created_at=at_us,
            **_changeable(head, sources, at_us),
        )
        .returning(templates.c.template_id)
    )
    return TemplateId(rows[0][0])


def change(head: TemplateHead, sources: Sources, at_us: int) -> Work[None]:
    """Store what of a template can change."""
    yield update(templates).where(*_one(head)).values(**_changeable(head, sources, at_us))


def mark_deleted(head: TemplateHead, at_us: int) -> Work[None]:
    """It is used no more, and its alias is free."""
    yield update(templates).where(*_one(head)).values(deleted_at=at_us)


def get(
    account_id: AccountId, server_id: ServerId, wanted: TemplateId | str, *, deleted: bool = False
) -> Work[Template | None]:
    """The one with this number or alias, or None. deleted: that number may be a deleted one's."""
    if isinstance(wanted, str):
        which = [templates.c.alias_key == alias_key(wanted), templates.c.deleted_at.is_(None)]
    else:
        which = [templates.c.template_id == wanted]
        if not deleted:
            which.append(templates.c.deleted_at.is_(None))
    rows = yield _chosen(_WHOLE, account_id, server_id).where(*which)
    return _template(rows[0]) if rows else None


def list_of(
    account_id: AccountId,
    server_id: ServerId,
    *,
    kind: TemplateKind | None = None,
    layout: str | None = None,
    limit: int,
    offset: int = 0,
) -> Work[tuple[list[TemplateHead], int]]:
    """Those that are not deleted, oldest first, and their number without limit and offset.

    layout: only those inside the layout with this alias.
    """
    which: list[ColumnElement[bool]] = [templates.c.deleted_at.is_(None)]
    if kind is not None:
        which.append(templates.c.kind == kind.value)
    if layout is not None:
        which.append(_layouts.c.alias_key == alias_key(layout))
    rows = yield (
        _chosen(_HEAD, account_id, server_id)
        .where(*which)
        .order_by(templates.c.template_id)
        .limit(limit)
        .offset(offset)
    )
    counted = yield _chosen((func.count(),), account_id, server_id).where(*which)
    return [_head(row) for row in rows], counted[0][0]


def count_inside(account_id: AccountId, server_id: ServerId, layout_id: TemplateId) -> Work[int]:
    """How many templates use this layout."""
    rows = yield (
        select(func.count())
        .select_from(templates)
        .where(
            templates.c.account_id == account_id,
            templates.c.server_id == server_id,
            templates.c.layout_id == layout_id,
            templates.c.deleted_at.is_(None),
        )
    )
    found: int = rows[0][0]
    return found


def _chosen(columns: Any, account_id: AccountId, server_id: ServerId) -> Select[Any]:  # Any: of any types
    inside = (
        (_layouts.c.account_id == templates.c.account_id)
        & (_layouts.c.template_id == templates.c.layout_id)
        & _layouts.c.deleted_at.is_(None)
    )
    return (
        select(*columns)
        .select_from(templates.outerjoin(_layouts, inside))
        .where(templates.c.account_id == account_id, templates.c.server_id == server_id)
    )


def _one(head: TemplateHead) -> tuple[ColumnElement[bool], ...]:
    return (
        templates.c.account_id == head.account_id,
        templates.c.server_id == head.server_id,
        templates.c.template_id == head.template_id,
    )


def _changeable(head: TemplateHead, sources: Sources, at_us: int) -> dict[str, object]:
    return {
        "name": head.name,
        "alias": head.alias,
        "alias_key": None if head.alias is None else alias_key(head.alias),
        "layout_id": head.layout_id,
        "subject": sources.subject,
        "html": sources.html,
        "text": sources.text,
        "updated_at": at_us,
    }


def _template(row: Any) -> Template:  # Any: a driver's row carries no types
    return Template(_head(row), Sources(row.subject, row.html, row.text))


def _head(row: Any) -> TemplateHead:  # Any: a driver's row carries no types
    return TemplateHead(
        account_id=AccountId(row.account_id),
        template_id=TemplateId(row.template_id),
        server_id=ServerId(row.server_id),
        kind=TemplateKind(row.kind),
        name=row.name,
        alias=row.alias,
        layout_id=None if row.layout_id is None else TemplateId(row.layout_id),
        layout_alias=row.layout_alias,
        deleted=row.deleted_at is not None,
    )
