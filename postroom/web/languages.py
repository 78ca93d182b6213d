"""The texts of the public pages in the reader's language (RFC 9110 12.5.4, RFC 4647 3.4)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

_RANGE = re.compile(
    r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,80})?\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?"
)
_MOST_CHARACTERS = 1000


@cache
def texts() -> Mapping[str, Mapping[str, str]]:
    """By language, by name. The first language is what everybody else gets."""
    read: dict[str, dict[str, str]] = tomllib.loads(
        resources.files("postroom.web").joinpath("public_texts.toml").read_text("utf-8")
    )
    return read


def choose(accept_language: str) -> str:
    """The language we have that the reader likes best; of equals the one named first."""
    best, quality = next(iter(texts())), 0.0
    for part in accept_language[:_MOST_CHARACTERS].split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            continue
        name, liked = found[1].lower(), float(found[2] or "1")
        if name in texts() and quality < liked <= 1.0:
            best, quality = name, liked
    return best
