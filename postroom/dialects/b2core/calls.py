"""One authenticated request of this API: whose providers it is about, and its language."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.core.server import Owner
from postroom.dialects.b2core.texts import LANGUAGES
from postroom.http import calls
from postroom.http.asgi import RawHeaders
from postroom.http.language import preferred


class Call(calls.Call, frozen=True):
    """A request whose key is known and may do it."""

    language: str = "en"

    @property
    def owner(self) -> Owner:
        """A server key: its server's providers; an account key: those the account shares."""
        return Owner(self.key.account_id, self.key.server_id)


def language_of(headers: RawHeaders) -> str:
    """The language to answer in."""
    return preferred(headers, LANGUAGES, "en")


def more(headers: RawHeaders) -> Mapping[str, object]:
    """What this API's Call has besides."""
    return {"language": language_of(headers)}
