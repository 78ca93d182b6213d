"""Addresses of our own pages that go into mail, built on the configured URL, never on a request's Host."""

from __future__ import annotations

from collections.abc import Iterable

from postroom.ids import DeliveryId
from postroom.tracking.tokens import SigningKeys, Token, TokenKind

PATHS = {TokenKind.UNSUBSCRIBE: "/u", TokenKind.CLICK: "/c", TokenKind.OPEN: "/o"}
UNSUBSCRIBE_PATH, CLICK_PATH, OPEN_PATH = PATHS.values()


class MailLinks:
    """Makes links and reads their tokens. base_url: where the world reaches us, without a slash at its end.

    It may be set later than the rest: with no `public_url` it is the address that `serve` listens on.
    """

    def __init__(self, keys: Iterable[SigningKeys], base_url: str) -> None:
        """keys: of each kind in PATHS."""
        self._keys = {one.kind: one for one in keys}
        self.base_url = base_url

    def token(self, kind: TokenKind, delivery_id: DeliveryId, link: int = 0, content_id: int = 0) -> str:
        """For one recipient's copy of one message; the same one each time."""
        return self._keys[kind].sign(delivery_id, link, content_id)

    def tokens(
        self, kind: TokenKind, delivery_id: DeliveryId, links: Iterable[int], content_id: int = 0
    ) -> list[str]:
        """For several links of one copy."""
        return self._keys[kind].sign_each(delivery_id, links, content_id)

    def url(self, kind: TokenKind, token: str) -> str:
        """The page for such a token."""
        return f"{self.base_url}{PATHS[kind]}/{token}"

    def read(self, kind: TokenKind, token: str) -> Token | None:
        """What it points at, or None when we did not make it."""
        return self._keys[kind].verify(token)
