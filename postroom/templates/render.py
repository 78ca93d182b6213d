"""Fills a template with a model, within bounds of work and size.

A context is a value and the context it was reached from; "../" goes back along these, so `{{#a.b}}` makes two
and an item of a list two (the list, then the item). What is missing is null, and null prints nothing, as
objects and arrays do. Not there, for a block, are null, false, 0, "" and what is empty. Numbers and booleans
are printed as Postmark prints them: True, 1.5, 10 for 10.0, 1E+20.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from .syntax import UP, Each, Node, Path, Problem, Section, Slot, Template, Text, Value

Json = object
"""A value of JSON. Whatever is none prints nothing and has nothing in it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """characters: of the result. steps: nodes, names of paths and items walked over; 200,000 take 0.1 s."""

    characters: int = 5_000_000
    steps: int = 200_000


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class Allowance:
    """What may be made altogether by several renderings, such as those of one request; each takes from it."""

    characters: int
    steps: int


class RenderFailed(ValueError):
    """The template does not go with this model, or is too much work; `problem` says where, if anywhere."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


def render(
    template: Template,
    model: Mapping[str, Json],
    *,
    escape: bool,
    limits: Limits = DEFAULT_LIMITS,
    allowance: Allowance | None = None,
) -> str:
    """The template's text with the model's values. escape: it is HTML, so `{{path}}` is escaped; else never.

    A layout by itself keeps its placeholder. Raises RenderFailed; TooMuch where a limit is reached, or the
    allowance is used up.
    """
    if allowance is not None:
        limits = Limits(min(limits.characters, allowance.characters), min(limits.steps, allowance.steps))
    rendering = _Rendering(escape, limits)
    try:
        rendering.walk(template.body, Context(model, None))
    finally:
        if allowance is not None:
            characters, steps = rendering.used()
            allowance.characters = max(0, allowance.characters - characters)
            allowance.steps = max(0, allowance.steps - steps)
    return "".join(rendering.parts)


class TooMuch(RenderFailed):
    """The result would be too long, or making it takes too many steps."""


class Context:
    """A value of the model and the context it was reached from."""

    __slots__ = ("parent", "value")

    def __init__(self, value: Json, parent: Context | None) -> None:
        self.value = value
        self.parent = parent


class _Rendering:
    def __init__(self, escape: bool, limits: Limits) -> None:
        self.parts: list[str] = []
        self._escape = escape
        self._limits = limits
        self._room = limits.characters
        self._steps_left = limits.steps

    def used(self) -> tuple[int, int]:
        """Characters and steps."""
        return self._limits.characters - self._room, self._limits.steps - self._steps_left

    def walk(self, nodes: tuple[Node, ...], context: Context) -> None:
        for node in nodes:
            match node:
                case Text(text):
                    self._step(1)
                    self._write(text)
                case Value(path, escaped):
                    self._write_value(self._reach(path, context).value, escaped and self._escape)
                case Section(path, inverted, body):
                    inner = self._reach(path, context)
                    if bool(inner.value) != inverted:
                        self.walk(body, inner)
                case Each():
                    self._walk_items(node, self._reach(node.path, context))
                case Slot(tag):
                    self._step(1)
                    self._write(tag)

    def _walk_items(self, each: Each, collection: Context) -> None:
        items = collection.value
        if not items:
            return
        if not isinstance(items, list):
            message = f"{each.written} is used like a list by the template, but is none in the model."
            raise RenderFailed(Problem(message, each.line, each.character))
        for item in items:
            self._step(1)
            self.walk(each.body, Context(item, collection))

    def _reach(self, path: Path, context: Context) -> Context:
        self._step(1 + len(path))
        for name in path:
            if name == UP:
                context = context.parent or context
            else:
                value = context.value
                context = Context(value.get(name) if isinstance(value, dict) else None, context)
        return context

    def _write_value(self, value: Json, escaped: bool) -> None:
        text = printed(value)
        if escaped:
            text = html.escape(text).replace("&#x27;", "&#39;")
        self._write(text)

    def _write(self, text: str) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise TooMuch(Problem(f"The result is longer than {self._limits.characters:,} characters."))
        self.parts.append(text)

    def _step(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise TooMuch(Problem(f"Rendering takes more than {self._limits.steps:,} steps."))


def printed(value: Json) -> str:
    """A value of JSON as text; "" for null, objects and arrays."""
    match value:
        case str():
            return value
        case bool():  # before int, which it is one of
            return "True" if value else "False"
        case int():
            return _whole(value)
        case float():
            return _number(value)
    return ""


def _whole(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python converts no number of more than 4,300 digits: quadratic
        raise RenderFailed(Problem("A number in the model has too many digits.")) from None


def _number(value: float) -> str:
    """The shortest digits that are this number, with an exponent from 1E+15 up and 1E-05 down."""
    if not value or not math.isfinite(value):
        return "0" if not value else ""
    number = Decimal(repr(value)).normalize()
    exponent = number.adjusted()
    if -5 < exponent < 15:
        return format(number, "f")
    digits = "".join(map(str, number.as_tuple().digits))
    mantissa = f"{digits[0]}.{digits[1:]}" if digits[1:] else digits
    return f"{'-' if value < 0 else ''}{mantissa}E{exponent:+03d}"
