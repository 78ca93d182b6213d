"""What templates make of models: the templates of one request, each read once, and filled within bounds.

What fills quickly is filled at once; what does not, beside the event loop. All messages of one request
together have an allowance, so that a short request cannot ask for gigabytes or minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from postroom.actions.context import Context
from postroom.actions.template_rules import LARGE_CHARACTERS
from postroom.actions.templates import Usable, Wanted
from postroom.dialects.postmark.bodies import Bodies
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.template_fields import NAMES
from postroom.templates.inline import InlineFailed
from postroom.templates.letter import Letter, PartInvalid, Sources, fill, inside, read
from postroom.templates.render import DEFAULT_LIMITS, Allowance, Limits, TooMuch

_QUICK = Limits(characters=64 << 10, steps=2000)
_MOST_CHARACTERS = 50_000_000
_MOST_STEPS = 5_000_000
_RESERVED = ("@content", "pm:unsubscribe", "pm:unsubscribe_url")


class Letters:
    """Templates by what names them."""

    def __init__(self, ctx: Context, found: Mapping[Wanted, Usable]) -> None:
        self._ctx, self._found = ctx, found
        self._read: dict[Wanted, Letter] = {}
        self._allowance = Allowance(_MOST_CHARACTERS, _MOST_STEPS)

    async def filled(self, which: Wanted, model: Mapping[str, object], *, inline_css: bool) -> Bodies | None:
        """What the message says; None where there is no such template. Raises ApiError(300, 1122)."""
        usable = self._found.get(which)
        if usable is None:
            return None
        try:
            letter = self._read.get(which)
            if letter is None:
                letter = self._read[which] = await _letter(usable)
            try:
                says = fill(letter, model, limits=_QUICK, allowance=self._allowance)
            except TooMuch:
                says = await asyncio.to_thread(
                    fill, letter, model, limits=DEFAULT_LIMITS, allowance=self._allowance
                )
        except PartInvalid as error:
            part = NAMES[error.part]
            text = f"The template's '{part}' does not go with the 'TemplateModel': {error.problem.message}"
            raise ApiError(1122, text=text) from None
        except TooMuch as error:
            raise ApiError(300, text=f"The template gives too much with its model: {error}") from None
        html = says.html
        if html is not None and inline_css:
            html = await self._inlined(html)
        return Bodies(says.subject or "", html, says.text)

    async def _inlined(self, document: str) -> str:
        try:
            return await self._ctx.inliner.inline(document)
        except InlineFailed as error:
            text = f"The CSS of the 'HtmlBody' cannot be moved into its elements: {error}."
            raise ApiError(1122, text=f"{text} Send with 'InlineCss' false.") from None


def check_model(model: Mapping[str, object]) -> None:
    """Raises ApiError(1122) for names that mean something of their own in templates."""
    taken = [name for name in _RESERVED if name in model]
    if taken:
        raise ApiError(1122, text=f"'TemplateModel' must not hold the name '{taken[0]}': it is reserved.")


async def check_usable(usable: Usable) -> None:
    """Raises ApiError(1122) where it is no template."""
    try:
        await _letter(usable)
    except PartInvalid as error:
        problem = error.problem
        place = f" (line {problem.line}, character {problem.character})" if problem.line else ""
        text = f"'{NAMES[error.part]}' is not a valid template{place}: {problem.message}"
        raise ApiError(1122, text=text) from None


async def _letter(usable: Usable) -> Letter:
    layout = usable.layout or Sources()

    def parse() -> Letter:
        letter = read(usable.sources)
        return letter if usable.layout is None else inside(read(layout, layout=True), letter)

    if usable.sources.characters + layout.characters > LARGE_CHARACTERS:
        return await asyncio.to_thread(parse)
    return parse()
