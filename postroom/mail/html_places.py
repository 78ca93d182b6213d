"""Where a document's body begins and ends, as places in its text, so that something can be put there.

Documents of mail are not parsed and written anew: that would change what their author, or a vendor's
placeholder in them, relies on. Only the few tags that matter are looked for, in linear time, past comments
and past elements whose content is no markup (HTML, 13.1.2 and 13.2.5).
"""

from __future__ import annotations

import re

from postroom.mail.html_tags import NO_MARKUP, tags

# Comments are tokens too: templates for Outlook hide a second <body> inside one.
_START = re.compile(r"<!--|<(/?)(!doctype|html|head|body)(?=[\s>/])", re.IGNORECASE)
_TAG_END = re.compile(r"""(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_HIDING = re.compile(rf"<(?:!--|{'|'.join(NO_MARKUP)})".encode())
_USUAL_END = re.compile(rb"</body\s*>\s*(?:</html\s*>\s*)?")
_LANGUAGE = re.compile(
    r"""<html(?:[^"'>]|"[^"]*"|'[^']*')*?\slang\s*=\s*["']?([A-Za-z]{2,3})(?=["'\s>-])""", re.IGNORECASE
)


def body_start(document: str) -> int:
    """Right behind <body>; without one behind </head>, <html> or the doctype, else 0."""
    place = position = 0
    while True:
        token = _START.search(document, position)
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


def body_end(document: str) -> int:
    """In front of the last </body>; without one in front of </html>, else the end.

    What is never closed (a comment, a tag, a <style>) hides all that follows it, so the place is before it.
    """
    place = _usual_body_end(document)
    return _walked_body_end(document) if place is None else place


def _usual_body_end(document: str) -> int | None:
    """The place in a document that ends as documents do, without walking through it; None: it may not."""
    # As bytes: lower() of text beyond Latin-1 takes ten times as long.
    lower = document.encode("utf-8", "replace").lower()
    place = lower.rfind(b"</body")
    if place < 0:
        if b"</html" in lower:
            return None
        place = len(lower)
    elif not _USUAL_END.fullmatch(lower, place):
        return None
    if lower.rfind(b"<", 0, place) > lower.rfind(b">", 0, place):
        return None
    last = {found[0]: found.start() for found in _HIDING.finditer(lower, 0, place)}
    for opener, start in last.items():
        closer = b"-->" if opener == b"<!--" else b"</" + opener[1:]
        if start > lower.rfind(closer, 0, place):
            return None
    return len(document) - (len(lower) - place)  # what follows is ASCII


def _walked_body_end(document: str) -> int:
    after_body: int | None = None
    after_html: int | None = None
    last = len(document)
    for tag in tags(document, ("body", "html")):
        if not tag.name:
            last = tag.start
        elif tag.closing and tag.name == "body":
            after_body = tag.start
        elif tag.closing:
            after_html = tag.start
    return next((place for place in (after_body, after_html) if place is not None), last)


def language(document: str) -> str:
    """The primary language subtag of <html lang=...>, in lower case (RFC 5646 2.2.1), or ""."""
    found = _LANGUAGE.search(document[:4000])
    return found.group(1).lower() if found else ""
