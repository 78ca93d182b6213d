"""django-anymail without a Django project: its Postmark backend, pointed at an address of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Anymail:
    """Any: its packages carry no types."""

    connection: Any
    kind: Any
    Refused: Any

    def message(
        self, subject: str, body: str, *, to: Sequence[str], sender: str = "zoe@example.com", **more: Any
    ) -> Any:
        """A message that goes out through it. more: as the class takes it."""
        return self.kind(subject, body, sender, list(to), connection=self.connection, **more)


def anymail_backend(url: str, token: str, *, use_bulk_api: bool = False) -> Anymail:
    """Messages go to `url` with this server token; use_bulk_api: those to several as one bulk."""
    from django.conf import settings  # only here: it takes a while, and few tests need it

    if not settings.configured:
        settings.configure(USE_TZ=True, DEFAULT_CHARSET="utf-8")
    from anymail.exceptions import AnymailError
    from anymail.message import AnymailMessage
    from django.core.mail import get_connection

    connection = get_connection(
        "anymail.backends.postmark.EmailBackend", server_token=token, api_url=url, use_bulk_api=use_bulk_api
    )
    return Anymail(connection, AnymailMessage, AnymailError)
