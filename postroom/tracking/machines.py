"""Whether a program, not a person, loaded a pixel or followed a link, as far as the request tells.

Scanners of mail systems follow links before anybody reads the message; browsers and mail programs fetch
ahead. Who pretends to be a browser is not seen here; many links of one copy at once are (`tracking.hits`).
A proxy that fetches when the reader opens the message, like Gmail's for images, is that reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from postroom.tally import HIT_AGENT, HIT_AHEAD, HIT_HEAD

_AHEAD = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_AHEAD_WORDS = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)
_AGENTS = re.compile(
    r"bot\b|bot/|crawl|spider|slurp|scan|preview|monitor|headless|phantom|selenium|puppeteer|playwright"
    r"|facebookexternalhit|whatsapp|telegram|barracuda|mimecast|proofpoint|fireeye|trendmicro|symantec|sophos"
    r"|forcepoint|urldefense|safelinks|bitdefender|kaspersky|python|aiohttp|httpx|curl|wget|libwww"
    r"|java/|ruby|php|guzzle|go-http|node-fetch|axios|undici|apache-httpclient|winhttp|powershell",
    re.IGNORECASE,
)
# Apple's Mail Privacy Protection loads every image, read or not; all it says of itself is this.
_APPLE = "Mozilla/5.0"


def machine(method: str, header: Callable[[str], Sequence[str]], user_agent: str) -> str:
    """One of `tally.HIT_HEAD`, HIT_AHEAD and HIT_AGENT, or "": it may have been a person.

    header: the values of the header field with this name, in lower case.
    """
    if method == "HEAD":
        return HIT_HEAD
    if any(_AHEAD_WORDS.search(value) for name in _AHEAD for value in header(name)):
        return HIT_AHEAD
    if user_agent.strip() in ("", _APPLE) or _AGENTS.search(user_agent):
        return HIT_AGENT
    return ""
