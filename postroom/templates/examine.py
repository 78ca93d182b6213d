"""Looks a template over for its author: what is wrong and where, the model it wants, how it looks with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .render import DEFAULT_LIMITS, Json, Limits, RenderFailed, render
from .suggest import completed, suggested_model
from .syntax import Problem, Template, TemplateInvalid, parse, within


@dataclass(frozen=True, slots=True)
class Source:
    """One part of a template, or of a layout. escape: it is HTML. layout: what to put it into."""

    text: str
    escape: bool
    is_layout: bool = False
    layout: Template | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one part. rendered: with the suggested model; None where something is wrong."""

    problems: tuple[Problem, ...]
    rendered: str | None

    @property
    def is_valid(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Examination:
    """verdicts: by the parts' names. model: the one given, completed by what the templates want."""

    verdicts: dict[str, Verdict]
    model: dict[str, Json]

    @property
    def is_valid(self) -> bool:
        return all(verdict.is_valid for verdict in self.verdicts.values())


def examine(
    sources: Mapping[str, Source], model: Mapping[str, Json], *, limits: Limits = DEFAULT_LIMITS
) -> Examination:
    """Parse the parts, complete the model from all that are sound, and render these with it."""
    sound: dict[str, Template] = {}
    verdicts: dict[str, Verdict] = {}
    for name, source in sources.items():
        try:
            template = parse(source.text, layout=source.is_layout)
            sound[name] = within(source.layout, template) if source.layout else template
        except TemplateInvalid as error:
            verdicts[name] = Verdict(error.problems, None)
    full = completed(model, suggested_model(sound.values()))
    for name, template in sound.items():
        try:
            verdicts[name] = Verdict((), render(template, full, escape=sources[name].escape, limits=limits))
        except RenderFailed as error:
            verdicts[name] = Verdict((error.problem,), None)
    return Examination({name: verdicts[name] for name in sources}, full)
