"""Addresses of our own pages that go into mail, built on the configured URL, never on a request's Host."""

from __future__ import annotations

from postroom.ids import DeliveryId
from postroom.tracking.tokens import SigningKeys, Token

UNSUBSCRIBE_PATH = "/u"


class MailLinks:
    """Makes links and reads their tokens. base_url: where the world reaches us, without a slash at its end.

    It may be set later than the rest: with no `public_url` it is the address that `serve` listens on.
    """

    def __init__(self, unsubscribe: SigningKeys, base_url: str) -> None:
        self._unsubscribe = unsubscribe
        self.base_url = base_url

    def unsubscribe_token(self, delivery_id: DeliveryId) -> str:
        """For one recipient's copy of one message; the same one each time."""
        return self._unsubscribe.sign(delivery_id)

    def unsubscribe_url(self, token: str) -> str:
        """The page for such a token."""
        return f"{self.base_url}{UNSUBSCRIBE_PATH}/{token}"

    def read_unsubscribe(self, token: str) -> Token | None:
        """What it points at, or None when we did not make it."""
        return self._unsubscribe.verify(token)
