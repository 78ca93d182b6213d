"""The preheader: text that an inbox shows after the subject, hidden at the top of the HTML body."""

from __future__ import annotations

import html

from postroom.mail.html_places import body_start

_STYLE = "display:none;max-height:0;max-width:0;opacity:0;overflow:hidden;mso-hide:all"


def with_preheader(document: str, preheader: str) -> str:
    """`document` with `preheader`, escaped, as the first and hidden element of its body.

    Without a body tag: after </head>, <html> or the doctype, else in front. Linear time.
    """
    hidden = f'<div style="{_STYLE}">{html.escape(preheader)}</div>'
    place = body_start(document)
    return f"{document[:place]}{hidden}{document[place:]}"
