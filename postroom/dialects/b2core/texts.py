"""What this API says, in each of its languages: our English sentences are looked up in `texts.toml`.

A sentence may hold numbers; in the table they are `{0}`, `{1}`. One that is not in the table is told in
English, which a test on every sentence of the API rules out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

ENGLISH = "en"
LANGUAGES = (ENGLISH, "ja", "de", "es", "ru", "fr")
_NUMBER = re.compile(r"\d+")


def translate(sentence: str, language: str) -> str:
    """The sentence in this language; English for what the table does not have."""
    if language == ENGLISH:
        return sentence
    numbers = _NUMBER.findall(sentence)
    count = iter(range(len(numbers)))
    row = _table().get(_NUMBER.sub(lambda _: f"{{{next(count)}}}", sentence))
    if row is None or language not in row:
        return sentence
    said = row[language]
    for place, number in enumerate(numbers):
        said = said.replace(f"{{{place}}}", number)
    return said


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    """By English sentence, with `{0}` for the first number in it."""
    read = tomllib.loads((files(__package__) / "texts.toml").read_text("utf-8"))
    return {row["en"]: row for row in read["text"]}
