"""Subject and bodies of one message as templates: read together, put into a layout, filled with one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .render import DEFAULT_LIMITS, Allowance, Json, Limits, RenderFailed, TooMuch, render
from .syntax import Problem, Template, TemplateInvalid, parse, within

PARTS = ("subject", "html", "text")
_ESCAPED = "html"


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts of the parts, as templates or as they came out; None for a part that is not there."""

    subject: str | None = None
    html: str | None = None
    text: str | None = None

    def parts(self) -> dict[str, str]:
        """Those that are there, by name."""
        named = {"subject": self.subject, "html": self.html, "text": self.text}
        return {name: source for name, source in named.items() if source is not None}

    @property
    def characters(self) -> int:
        """Of all parts."""
        return sum(map(len, self.parts().values()))


class PartInvalid(ValueError):
    """One part is no template, or does not go with the model: which, and the first thing wrong with it."""

    def __init__(self, part: str, problem: Problem) -> None:
        self.part, self.problem = part, problem
        super().__init__(f"{part}: {problem.message}")


class PlaceholderMissing(PartInvalid):
    """A part of a layout has no place for content, or several."""


@dataclass(frozen=True, slots=True)
class Letter:
    """Parsed parts by their names."""

    parts: Mapping[str, Template]


def read(sources: Sources, *, layout: bool = False) -> Letter:
    """Parse every part. Raises PartInvalid; PlaceholderMissing for a layout without its placeholder."""
    parts: dict[str, Template] = {}
    for name, source in sources.parts().items():
        try:
            parts[name] = parse(source, layout=layout)
        except TemplateInvalid as error:
            kind = PlaceholderMissing if error.is_of_placeholder else PartInvalid
            raise kind(name, error.problems[0]) from None
    return Letter(parts)


def inside(layout: Letter, letter: Letter) -> Letter:
    """Each part at the placeholder of the layout's; one the layout has not stays as it is."""
    return Letter(
        {
            name: within(layout.parts[name], part) if name in layout.parts else part
            for name, part in letter.parts.items()
        }
    )


def fill(
    letter: Letter,
    model: Mapping[str, Json],
    *,
    limits: Limits = DEFAULT_LIMITS,
    allowance: Allowance | None = None,
) -> Sources:
    """The parts filled with the model. Raises PartInvalid, TooMuch."""
    filled: dict[str, str] = {}
    for name, part in letter.parts.items():
        try:
            filled[name] = render(part, model, escape=name == _ESCAPED, limits=limits, allowance=allowance)
        except TooMuch:
            raise
        except RenderFailed as error:
            raise PartInvalid(name, error.problem) from None
    return Sources(filled.get("subject"), filled.get("html"), filled.get("text"))
