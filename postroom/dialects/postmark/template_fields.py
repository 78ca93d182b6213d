"""Templates as this API has them: their fields read, and shown."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.actions.changes import UNSET, Unset
from postroom.actions.template_rules import Refusal, TemplateDraft, TemplateRefused
from postroom.actions.templates import TemplateChanges, Wanted
from postroom.core.template import Template, TemplateHead, TemplateKind
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.ids import TemplateId
from postroom.templates.letter import Sources

KINDS: Mapping[str, TemplateKind] = {"Standard": TemplateKind.STANDARD, "Layout": TemplateKind.LAYOUT}
_KIND_NAMES = {kind: name for name, kind in KINDS.items()}
NAMES = {
    "name": "Name", "alias": "Alias", "subject": "Subject", "html": "HtmlBody", "text": "TextBody",
    "kind": "TemplateType", "layout": "LayoutTemplate",
}  # fmt: skip
WRITABLE = tuple(NAMES.values())
_CODES: Mapping[Refusal, int] = {
    Refusal.MISSING: 1120,
    Refusal.TOO_LONG: 1121,
    Refusal.INVALID: 1122,
    Refusal.TAKEN: 1122,
    Refusal.NOT_ALLOWED: 1123,
    Refusal.PLACEHOLDER: 1131,
    Refusal.NO_LAYOUT: 1101,
    Refusal.NEEDED: 1130,
    Refusal.TOO_MANY: 1105,
    Refusal.NOTHING_TO_PUSH: 1124,
    Refusal.OTHER_KIND: 1125,
}
_OWN_TEXTS = (1101, 1105, 1120, 1124, 1130)


def read_draft(fields: Fields) -> TemplateDraft:
    """A template to be made. Raises ApiError(403, 1122)."""
    kind = fields.one_of("TemplateType", KINDS, 1122)
    return TemplateDraft(
        fields.text("Name") or "",
        TemplateKind.STANDARD if kind is None else KINDS[kind],
        sources_of(fields),
        fields.text("Alias"),
        fields.text("LayoutTemplate"),
    )


def read_changes(fields: Fields) -> TemplateChanges:
    """What of a template is to change: null leaves a field, "" clears one that may be missing.

    LayoutTemplate is cleared by null as well. Raises ApiError(403, 1122).
    """
    kind = fields.one_of("TemplateType", KINDS, 1122)
    layout = fields.text("LayoutTemplate")
    name, subject = fields.text("Name"), fields.text("Subject")
    return TemplateChanges(
        name=UNSET if name is None else name,
        alias=_changed(fields, "Alias"),
        layout=layout if fields.sent("LayoutTemplate") else UNSET,
        kind=UNSET if kind is None else KINDS[kind],
        subject=UNSET if subject is None else subject,
        html=_changed(fields, "HtmlBody"),
        text=_changed(fields, "TextBody"),
    )


def sources_of(fields: Fields) -> Sources:
    """Subject and bodies."""
    return Sources(fields.text("Subject"), fields.text("HtmlBody"), fields.text("TextBody"))


def wanted(word: str) -> Wanted:
    """What a number or an alias in a path names."""
    if word.isascii() and word.isdecimal():
        return TemplateId(int(word) if len(word) <= 18 else 0)
    return word


def model_of(fields: Fields, name: str) -> Mapping[str, object] | None:
    """A model; an empty array counts as an empty one. Raises ApiError(403)."""
    value = fields.value(name)
    if value is None or value == []:
        return None if value is None else {}
    if not isinstance(value, Mapping):
        raise ApiError(403, name)
    return value


def missing(which: Wanted) -> ApiError:
    """There is no such template."""
    if isinstance(which, str):
        text = "The Template's 'Alias' associated with this request is not valid or was not found."
        return ApiError(1101, text=text)
    return ApiError(1101, "TemplateId")


def refused(error: TemplateRefused) -> ApiError:
    """An action's refusal in the product's words."""
    code, first = _CODES[error.refusal], error.errors[0]
    name = NAMES.get(first.field, first.field)
    if code in _OWN_TEXTS:
        return ApiError(code, name)
    reason = first.reason if first.reason.endswith(".") else f"{first.reason}."
    return ApiError(code, text=reason if code == 1131 else f"'{name}' {reason}")


def shown(head: TemplateHead) -> dict[str, object]:
    """A template in a list, or just made or changed."""
    return {
        "TemplateId": head.template_id,
        "Name": head.name,
        "Active": not head.deleted,
        "Alias": head.alias,
        "TemplateType": kind_name(head.kind),
        "LayoutTemplate": head.layout_alias,
    }


def shown_whole(template: Template) -> dict[str, object]:
    """One template with all that is in it."""
    sources = template.sources
    return {
        **shown(template.head),
        "AssociatedServerId": template.head.server_id,
        "Subject": sources.subject,
        "HtmlBody": sources.html,
        "TextBody": sources.text,
    }


def kind_name(kind: TemplateKind) -> str:
    """The product's word."""
    return _KIND_NAMES[kind]


def _changed(fields: Fields, name: str) -> str | Unset | None:
    if fields.is_cleared(name):
        return None
    value = fields.text(name)
    return UNSET if value is None else value
