"""What a template must be: its fields and sources, told from everything it could be wrong in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from postroom.actions.checks import has_refused_characters, is_blank
from postroom.core.template import TemplateKind
from postroom.errors import Invalid
from postroom.templates.letter import PartInvalid, PlaceholderMissing, Sources, read

MOST_TEMPLATES = 100  # of a server, layouts among them, deleted ones not
MOST_NAME_CHARACTERS = 255
MOST_ALIAS_CHARACTERS = 100
MOST_SUBJECT_CHARACTERS = 2000
MOST_BODY_CHARACTERS = 512 << 10
LARGE_CHARACTERS = 64 << 10  # what is larger is read beside the event loop
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_LONGEST = {
    "name": MOST_NAME_CHARACTERS,
    "alias": MOST_ALIAS_CHARACTERS,
    "subject": MOST_SUBJECT_CHARACTERS,
    "html": MOST_BODY_CHARACTERS,
    "text": MOST_BODY_CHARACTERS,
}


class Refusal(Enum):
    """Why a template cannot be made, changed, deleted or pushed so."""

    MISSING = "is required"
    TOO_LONG = "is too long"
    INVALID = "is not valid"
    NOT_ALLOWED = "is not allowed here"
    PLACEHOLDER = "needs its placeholder"
    TAKEN = "is in use by another template"
    NO_LAYOUT = "is no layout of this server"
    NEEDED = "is needed by the templates inside it"
    TOO_MANY = f"would be one too many: a server has at most {MOST_TEMPLATES}"
    NOTHING_TO_PUSH = "has no template with an alias"
    OTHER_KIND = "is of another type on the other server"


class TemplateRefused(Invalid):
    """A template cannot be made, changed, deleted or pushed so."""

    def __init__(self, refusal: Refusal, field: str, reason: str = "") -> None:
        self.refusal = refusal
        super().__init__(field, reason or refusal.value)


@dataclass(frozen=True)
class TemplateDraft:
    """A template to be made. layout: the alias of the layout it goes into."""

    name: str
    kind: TemplateKind
    sources: Sources
    alias: str | None = None
    layout: str | None = None


def check(draft: TemplateDraft) -> None:
    """Everything that needs no database. Takes a while where sources are large. Raises TemplateRefused."""
    check_fields(draft)
    check_sources(draft.sources, is_layout=draft.kind is TemplateKind.LAYOUT)


def check_fields(draft: TemplateDraft) -> None:
    """All but what the sources say. Raises TemplateRefused."""
    if is_blank(draft.name):
        raise TemplateRefused(Refusal.MISSING, "name")
    is_layout = draft.kind is TemplateKind.LAYOUT
    subject = draft.sources.subject
    if is_layout and subject is not None:
        raise TemplateRefused(Refusal.NOT_ALLOWED, "subject", "is not allowed: a layout has none")
    if not is_layout and (subject is None or is_blank(subject)):
        raise TemplateRefused(Refusal.MISSING, "subject")
    if is_layout and draft.layout is not None:
        raise TemplateRefused(Refusal.NOT_ALLOWED, "layout", "is not allowed: a layout is in no other")
    if draft.sources.html is None and draft.sources.text is None:
        raise TemplateRefused(Refusal.MISSING, "html", "or a text is required")
    _check_texts(draft)


def check_sources(sources: Sources, *, is_layout: bool) -> None:
    """They are what `postroom.templates` can read. Raises TemplateRefused."""
    try:
        read(sources, layout=is_layout)
    except PlaceholderMissing as error:
        raise TemplateRefused(Refusal.PLACEHOLDER, error.part, error.problem.message) from None
    except PartInvalid as error:
        problem = error.problem
        place = f" (line {problem.line}, character {problem.character})" if problem.line else ""
        reason = f"is not a valid template{place}: {problem.message}"
        raise TemplateRefused(Refusal.INVALID, error.part, reason) from None


def _check_texts(draft: TemplateDraft) -> None:
    texts = {"name": draft.name, "alias": draft.alias, **draft.sources.parts()}
    for field, value in texts.items():
        if value is None:
            continue
        if len(value) > _LONGEST[field]:
            reason = f"is too long (maximum is {_LONGEST[field]} characters)"
            raise TemplateRefused(Refusal.TOO_LONG, field, reason)
        if "\0" in value or (field not in ("html", "text") and has_refused_characters(value)):
            raise TemplateRefused(Refusal.INVALID, field, "contains characters that are not allowed")
    if draft.alias is not None and not _ALIAS.fullmatch(draft.alias):
        reason = "must begin with a letter and hold letters, digits, '.', '_' and '-' only"
        raise TemplateRefused(Refusal.INVALID, "alias", reason)
