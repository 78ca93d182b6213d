"""A second renderer, by rewriting text from the rules: slow, unbounded and sharing nothing with the first.

Contexts are lists of values, the outermost first. Only for templates that are in order.
"""

from __future__ import annotations

import re
from typing import Any

Stack = list[Any]  # values of JSON

_TAG = re.compile(r"{{[^{}]+}}|{{{[^{}]+}}}")


def render(source: str, stack: Stack, *, escape: bool) -> str:
    tag = _TAG.search(source)
    if tag is None:
        return source
    before, rest, inner = source[: tag.start()], source[tag.end() :], tag[0].strip("{}")
    if inner.startswith("!"):
        made = ""
    elif inner[0] in "#^":
        name = inner[1:].strip()
        halves, rest = _block(name, rest)
        made = ""
        for mark, body in [(inner[0], halves[0][1]), *halves[1:]]:
            made += _play(mark, name, body, stack, escape)
    else:
        found = look(inner.lstrip("&").strip(), stack)[-1]
        made = show(found)
        if escape and not tag[0].startswith(("{{{", "{{&")):
            for character, entity in zip("&<>\"'", ("&amp;", "&lt;", "&gt;", "&quot;", "&#39;"), strict=True):
                made = made.replace(character, entity)
    return before + made + render(rest, stack, escape=escape)


def _play(mark: str, name: str, body: str, stack: Stack, escape: bool) -> str:
    if mark == "#" and name.startswith("each "):
        found = look(name[5:].strip(), stack)
        if not there(found[-1]):
            return ""
        if not isinstance(found[-1], list):
            raise TypeError(name)
        return "".join(render(body, [*found, item], escape=escape) for item in found[-1])
    found = look(name, stack)
    return render(body, found, escape=escape) if there(found[-1]) == (mark == "#") else ""


def _block(name: str, source: str) -> tuple[list[tuple[str, str]], str]:
    """The halves of a block with their marks (the first mark is the caller's), and what follows the block."""
    inside: list[str] = []
    halves: list[tuple[str, str]] = [("", "")]
    start = 0
    for tag in _TAG.finditer(source):
        inner = tag[0].strip("{}")
        other = inner[1:].strip()
        if inner[0] in "#^":
            each = other.startswith("each ") and inner[0] == "#"
            if not each and other == (inside[-1] if inside else name):
                if not inside:
                    halves[-1] = halves[-1][0], source[start : tag.start()]
                    halves.append((inner[0], ""))
                    start = tag.end()
            else:
                inside.append("each" if each else other)
        elif inner[0] == "/":
            if inside:
                inside.pop()
                continue
            halves[-1] = halves[-1][0], source[start : tag.start()]
            return halves, source[tag.end() :]
    raise ValueError("a block is open")


def look(path: str, stack: Stack) -> Stack:
    while path.startswith("../"):
        path, stack = path[3:], stack[:-1] or stack
    for name in path.split("."):
        if name:
            value = stack[-1]
            stack = [*stack, value[name] if isinstance(value, dict) and name in value else None]
    return stack


def there(value: Any) -> bool:
    return value is not None and value not in (False, "", [], {})  # 0 == False


def show(value: Any) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    return str(value) if isinstance(value, str | int) else ""
