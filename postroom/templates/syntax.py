"""Reads a template of Mustachio into nodes, or says everything that is wrong with it and where.

    {{path}}                 the value, escaped for HTML          {{{path}}}  {{&path}}   the value as it is
    {{#path}} … {{/path}}    if it is there, with it as the current value
    {{^path}} … {{/path}}    if it is not;  {{^path}} inside {{#path}}, or the reverse, is the other half
    {{#each path}} … {{/each}}   once for each item               {{! … }}    a comment
    {{{@content}}}           in a layout: where the content goes  {{{ pm:unsubscribe }}}  left for the sending

A path is names joined by dots. "." is the current value, "../" the context outside of it; names are looked up
in the current value alone. Blocks nest; there are no partials, helpers or else. Braces that make no tag are
text. What the corners do (`{{#x}}` twice, an empty path) they do in the engine Postmark published.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

UP = "../"
MAX_CHARACTERS = 5_000_000
MAX_TAGS = 20_000
MAX_DEPTH = 100
MAX_PATH = 1000
MAX_PROBLEMS = 100

Path = tuple[str, ...]

_TAG = re.compile(r"\{\{([^{}]++)\}\}|\{\{\{([^{}]++)\}\}\}")
_STEP = re.compile(r"\.\./|[^.]+")
# A run of three dots, a slash that is not of "../", two dots that are not of "../".
_BAD_PATH = re.compile(r"\.{3}|(?<!\.\.)/|\.\.(?!/)")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./]*")
_WORD_CATEGORIES = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Pc"))
_SLOT = "@content"
_LEFT_ALONE = re.compile(r"""pm:unsubscribe(?:_url)?(?:\s+label\s*=\s*(?:"[^"]*"|'[^']*'))?""")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a template. line, character: of its tag, from 1; 0 where it is of no tag."""

    message: str
    line: int = 0
    character: int = 0


class TemplateInvalid(ValueError):
    """The source is no template; `problems`, at least one, in the order of their places."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{one.line}:{one.character} {one.message}" for one in self.problems))

    @property
    def is_of_placeholder(self) -> bool:
        """Whether all that is wrong is a layout's placeholder."""
        return isinstance(self, PlaceholderInvalid)


class PlaceholderInvalid(TemplateInvalid):
    """A layout without its placeholder, or with more than one."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is written as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a layout has its content; tag: as it was written."""

    tag: str


@dataclass(frozen=True, slots=True)
class Value:
    path: Path
    escaped: bool


@dataclass(frozen=True, slots=True)
class Section:
    path: Path
    inverted: bool
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Each:
    """written, line and character: what an error says when the value is no list."""

    path: Path
    body: tuple[Node, ...]
    written: str
    line: int
    character: int


Node = Text | Slot | Value | Section | Each


@dataclass(frozen=True, slots=True)
class Template:
    """slots: how many placeholders for content it has: one for a layout, else none."""

    body: tuple[Node, ...]
    slots: int = 0


def parse(source: str, *, layout: bool = False) -> Template:
    """Read a template, or a layout. Raises TemplateInvalid, and PlaceholderInvalid where that is all."""
    reader = _Reader(source, layout)
    template = reader.read()
    if layout and template.slots != 1:
        found = "it is missing" if not template.slots else f"it is there {template.slots} times"
        message = (
            f"The layout content placeholder must be present exactly once, as {{{{{{@content}}}}}}; {found}."
        )
        raise PlaceholderInvalid([Problem(message)])
    return template


def within(layout: Template, content: Template) -> Template:
    """The content at the layout's placeholder, as one template. A layout is never content."""
    if layout.slots != 1 or content.slots:
        raise ValueError("a layout has one placeholder, and its content none")
    return Template(_filled(layout.body, content.body))


def _filled(nodes: tuple[Node, ...], content: tuple[Node, ...]) -> tuple[Node, ...]:
    filled: list[Node] = []
    for node in nodes:
        if isinstance(node, Slot):
            filled += content
        elif isinstance(node, Section | Each):
            filled.append(replace(node, body=_filled(node.body, content)))
        else:
            filled.append(node)
    return tuple(filled)


@dataclass(slots=True)
class _Block:
    """An open block. name: of a section, as written; None for an each. place: its line and character."""

    name: str | None
    path: Path
    written: str
    inverted: bool
    place: tuple[int, int]
    body: list[Node] = field(default_factory=list)


class _Reader:
    def __init__(self, source: str, layout: bool) -> None:
        self._source = source
        self._layout = layout
        self._problems: list[Problem] = []
        self._blocks: list[_Block] = []
        self._body: list[Node] = []  # of the innermost open block
        self._top = self._body
        self._slots = 0
        self._start = 0  # of the tag being read
        self._place = 1, 1

    def read(self) -> Template:
        if len(self._source) > MAX_CHARACTERS:
            raise TemplateInvalid([Problem(f"It is longer than {MAX_CHARACTERS:,} characters.")])
        position = 0
        for count, tag in enumerate(_TAG.finditer(self._source)):
            if tag.start() > position:
                self._body.append(Text(self._source[position : tag.start()]))
            self._advance(tag.start())
            position = tag.end()
            if count == MAX_TAGS:
                self._stop(f"There are more than {MAX_TAGS:,} tags.")
            if tag[2] is None:
                self._read_tag(tag[1])
            else:
                self._read_triple(tag[2], tag[0])
        if position < len(self._source):
            self._body.append(Text(self._source[position:]))
        for block in self._blocks:
            self._place = block.place
            closing = "each" if block.name is None else block.name
            self._problem(f"The block {block.written} is not closed; its end is {{{{/{_shown(closing)}}}}}.")
        if self._problems:
            raise TemplateInvalid(sorted(self._problems, key=lambda one: (one.line, one.character)))
        return Template(tuple(self._top), self._slots)

    def _read_tag(self, inner: str) -> None:
        first = inner[0]
        if inner.startswith("#each"):
            self._open_each(inner)
        elif inner.startswith("/each"):
            self._close_each(inner)
        elif first in "#^":
            self._open_section(inner.lstrip(first).strip(), inverted=first == "^")
        elif first == "/":
            self._close_section(inner.lstrip("/").strip())
        elif first == "&":
            self._body.append(Value(self._path(inner.lstrip("&")), escaped=False))
        elif first != "!":
            self._body.append(Value(self._path(inner), escaped=True))

    def _read_triple(self, inner: str, tag: str) -> None:
        name = inner.strip()
        if _LEFT_ALONE.fullmatch(name):
            self._body.append(Text(tag))
        elif name == _SLOT and self._layout:
            self._slots += 1
            self._body.append(Slot(tag))
        elif name == _SLOT:
            self._problem("{{{@content}}} stands in layouts only.")
        else:
            self._body.append(Value(self._path(inner.lstrip("&")), escaped=False))

    def _open_each(self, inner: str) -> None:
        path = inner[len("#each") :]
        steps: Path = ()
        if path.startswith(" ") and path.strip():
            steps = self._path(path)
        else:
            self._problem("An 'each' block needs the path of a list: {{#each path}}.")
        self._open(_Block(None, steps, f"{{{{{_shown(inner)}}}}}", False, self._place))

    def _close_each(self, inner: str) -> None:
        if inner != "/each":
            self._problem("The end of an 'each' block is {{/each}}, with nothing else in it.")
        elif self._blocks and self._blocks[-1].name is None:
            self._close()
        else:
            self._problem("{{/each}} closes no {{#each path}}: " + self._open_now())

    def _open_section(self, name: str, inverted: bool) -> None:
        place = self._place
        if self._blocks and self._blocks[-1].name == name:
            place = self._blocks[-1].place  # the other half: where the whole began is what is not closed
            steps = self._blocks[-1].path
            self._close()
        else:
            steps = self._path(name)
        mark = "^" if inverted else "#"
        self._open(_Block(name, steps, f"{{{{{mark}{_shown(name)}}}}}", inverted, place))

    def _close_section(self, name: str) -> None:
        if self._blocks and self._blocks[-1].name == name:
            self._close()
        else:
            self._problem(f"{{{{/{_shown(name)}}}}} does not match what it should close: {self._open_now()}")

    def _open_now(self) -> str:
        return f"{self._blocks[-1].written} is open." if self._blocks else "no block is open."

    def _open(self, block: _Block) -> None:
        if len(self._blocks) == MAX_DEPTH:
            self._stop(f"Blocks are nested more than {MAX_DEPTH} deep.")
        self._blocks.append(block)
        self._body = block.body

    def _close(self) -> None:
        block = self._blocks.pop()
        self._body = self._blocks[-1].body if self._blocks else self._top
        body = tuple(block.body)
        if block.name is None:
            self._body.append(Each(block.path, body, block.written, *block.place))
        else:
            self._body.append(Section(block.path, block.inverted, body))

    def _path(self, written: str) -> Path:
        path = written.strip()
        if len(path) > MAX_PATH:
            self._problem(f"A path is at most {MAX_PATH:,} characters long.")
        elif _BAD_PATH.search(path) or not (_PLAIN_PATH.fullmatch(path) or all(map(_fits_path, path))):
            self._problem(
                f"'{_shown(path)}' is not a valid path: it is names of letters, digits and underscores, "
                "joined by dots, with ../ in front for what is outside of the block."
            )
        return tuple(_STEP.findall(path))

    def _stop(self, message: str) -> None:
        """End reading here: going on would cost more than the answer is worth."""
        self._problem(message)
        raise TemplateInvalid(self._problems)

    def _problem(self, message: str) -> None:
        self._problems.append(Problem(message, *self._place))
        if len(self._problems) == MAX_PROBLEMS:
            raise TemplateInvalid(self._problems)

    def _advance(self, start: int) -> None:
        """Move to a tag further on: its line and character, the latter in UTF-16 units as editors count."""
        line, character = self._place
        passed = self._source[self._start : start]
        lines = passed.count("\n")
        if lines:
            passed, character = passed[passed.rindex("\n") + 1 :], 1
        units = len(passed.encode("utf-16-le", "surrogatepass")) // 2
        self._start, self._place = start, (line + lines, character + units)


def _fits_path(character: str) -> bool:
    return character in "./" or unicodedata.category(character) in _WORD_CATEGORIES


def _shown(text: str) -> str:
    """What a template says, at a length for a sentence."""
    return text if len(text) <= 100 else text[:99] + "…"
