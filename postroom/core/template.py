"""A template: what messages are made from, kept with a server; and a layout, which others are put into."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.ids import AccountId, ServerId, TemplateId
from postroom.templates.letter import Sources


class TemplateKind(StrEnum):
    """What it is for."""

    STANDARD = "standard"  # a message is made from it
    LAYOUT = "layout"  # what stands around others; never sent by itself


@dataclass(frozen=True)
class TemplateHead:
    """All of a template but its sources.

    alias: its name in requests, unique on its server whatever its case. layout_alias: that of its layout.
    """

    account_id: AccountId
    template_id: TemplateId
    server_id: ServerId
    kind: TemplateKind
    name: str
    alias: str | None
    layout_id: TemplateId | None
    layout_alias: str | None
    deleted: bool = False


@dataclass(frozen=True)
class Template:
    """One template as stored."""

    head: TemplateHead
    sources: Sources
