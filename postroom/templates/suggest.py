"""The model a template wants, read off its paths: what Postmark calls SuggestedTemplateModel.

A path that is printed becomes "name_Value", one that others go through an object, one of `each` a list: of
one object, or of "name_1" to "name_3" where its items have no names. A block around nothing but text tells
nothing of its value: an empty object. Contexts are those of `render`, so that a suggested model shows in the
places it was read off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .render import Json
from .syntax import UP, Each, Node, Path, Section, Template, Value

MAX_LEVELS = 100
"""Deeper than this nothing is suggested: whoever reads the answer may count levels by recursion."""


def suggested_model(templates: Iterable[Template]) -> dict[str, Json]:
    """One model for all of these templates, its names in the order of their first use."""
    root = _Wanted("")
    for template in templates:
        _look(template.body, _Context(root, None))
    return {name: wanted.example() for name, wanted in root.fields.items()}


def completed(given: Mapping[str, Json], suggested: Mapping[str, Json]) -> dict[str, Json]:
    """The given model with what the suggestion has besides; where both have a value the given one stays."""
    model = dict(given)
    for name, value in suggested.items():
        if name not in model:
            model[name] = value
        elif isinstance(theirs := model[name], dict) and isinstance(value, dict):
            model[name] = completed(theirs, value)
    return model


class _Wanted:
    """A place in the model and how it is used. item: the items' place, where it is a list."""

    __slots__ = ("fields", "item", "name", "printed")

    def __init__(self, name: str) -> None:
        self.name = name
        self.fields: dict[str, _Wanted] = {}
        self.item: _Wanted | None = None
        self.printed = False

    def example(self) -> Json:
        if self.item is not None:
            if self.item.fields or self.item.item:
                return [self.item.example()]
            return [f"{self.name}_{number}" for number in (1, 2, 3)]
        if self.fields:
            return {name: wanted.example() for name, wanted in self.fields.items()}
        return f"{self.name}_Value" if self.printed else {}


class _Context:
    __slots__ = ("level", "parent", "wanted")

    def __init__(self, wanted: _Wanted, parent: _Context | None) -> None:
        self.wanted = wanted
        self.parent = parent
        self.level: int = parent.level + 1 if parent else 0

    def field(self, name: str) -> _Context:
        inner = _Wanted(name)
        if self.level < MAX_LEVELS:
            inner = self.wanted.fields.setdefault(name, inner)
        return _Context(inner, self)

    def item(self) -> _Context:
        inner = _Wanted(self.wanted.name)
        if self.level < MAX_LEVELS:
            if self.wanted.item is None:
                self.wanted.item = inner
            inner = self.wanted.item
        return _Context(inner, self)


def _look(nodes: tuple[Node, ...], context: _Context) -> None:
    for node in nodes:
        if isinstance(node, Value):
            _reach(node.path, context).wanted.printed = True
        elif isinstance(node, Section):
            _look(node.body, _reach(node.path, context))
        elif isinstance(node, Each):
            _look(node.body, _reach(node.path, context).item())


def _reach(path: Path, context: _Context) -> _Context:
    for name in path:
        if name == UP:
            context = context.parent or context
        else:
            context = context.field(name)
    return context
