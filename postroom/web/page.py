"""A plain page: one heading, a few paragraphs, a form. It needs no script, loads nothing and keeps nothing.

The headers forbid what the page does not do: scripts, frames, resources, being stored or found, and telling
the next site its address, which holds a token.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass

# Dark on light and light on dark at 7 to 1 or better (WCAG 2.2, 1.4.6); a test computes it.
STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --paper: #ffffff; --soft: #50565d; --line: #767d86;
  --button: #0b4fa8; --on-button: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --paper: #16181b; --soft: #b4bac2;
  --line: #8b939c; --button: #9cc4ff; --on-button: #0b1a30; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text);
  font: 1.125rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 34rem; margin: 0 auto; padding: 3rem 1.25rem; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1rem; }
p { margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0 0 1.5rem; }
dt { color: var(--soft); }
dd { margin: 0; }
form { margin: 1.5rem 0; }
button { font: inherit; font-weight: 600; min-height: 2.75rem; padding: .5rem 1.5rem; cursor: pointer;
  border: 2px solid var(--button); border-radius: .375rem; background: var(--button);
  color: var(--on-button); }
button.second { background: var(--paper); color: var(--text); border-color: var(--line); }
button:focus-visible { outline: 3px solid var(--text); outline-offset: 3px; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
_HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "vary": "Accept-Language",
}


@dataclass(frozen=True)
class Button:
    """Sends `action=<action>` to the page's own address by POST."""

    action: str
    label: str
    question: str = ""  # in front of it
    second: bool = False  # not what the reader came for


def page(
    language: str,
    title: str,
    paragraphs: Sequence[str],
    *,
    facts: Sequence[tuple[str, str]] = (),
    button: Button | None = None,
) -> bytes:
    """The document. Every text is escaped here. facts: names and values, shown as a list."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    body += [f"<p>{html.escape(one)}</p>" for one in paragraphs]
    if facts:
        pairs = "".join(f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in facts)
        body.append(f"<dl>{pairs}</dl>")
    if button is not None:
        question = f"<p>{html.escape(button.question)}</p>" if button.question else ""
        kind = ' class="second"' if button.second else ""
        body.append(
            f'<form method="post">{question}'
            f'<button type="submit" name="action" value="{html.escape(button.action)}"{kind}>'
            f"{html.escape(button.label)}</button></form>"
        )
    return (
        f'<!DOCTYPE html>\n<html lang="{html.escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex, nofollow">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(body)}\n</main>\n</body>\n</html>\n"
    ).encode()


def headers(language: str) -> list[tuple[bytes, bytes]]:
    """What goes with every page."""
    told = {**_HEADERS, "content-language": language}
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in told.items()]
