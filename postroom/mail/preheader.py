"""The preheader: text that an inbox shows after the subject, hidden at the top of the HTML body."""

from __future__ import annotations

import html
import re

# Comments are tokens too: templates for Outlook hide a second <body> inside one.
_TOKENS = re.compile(r"<!--|<(/?)(!doctype|html|head|body)(?=[\s>/])", re.IGNORECASE)
_TAG_END = re.compile(r"""(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_STYLE = "display:none;max-height:0;max-width:0;opacity:0;overflow:hidden;mso-hide:all"


def with_preheader(document: str, preheader: str) -> str:
    """`document` with `preheader`, escaped, as the first and hidden element of its body.

    Without a body tag: after </head>, <html> or the doctype, else in front. Linear time.
    """
    hidden = f'<div style="{_STYLE}">{html.escape(preheader)}</div>'
    place = _body_start(document)
    return f"{document[:place]}{hidden}{document[place:]}"


def _body_start(document: str) -> int:
    place = position = 0
    while True:
        token = _TOKENS.search(document, position)
        if token is None:
            return place
        if token.group() == "<!--":
            end = document.find("-->", token.start() + 2)
            if end < 0:
                return place
            position = end + 3
            continue
        tag_end = _TAG_END.match(document, token.end())
        if tag_end is None:
            return place
        position = tag_end.end()
        name = token.group(2).lower()
        if name == "body" and not token.group(1):
            return position
        if name in ("html", "!doctype") or (name == "head" and token.group(1)):
            place = position
