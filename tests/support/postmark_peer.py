"""Postmark as far as sending needs it; what its official models do not accept fails the test."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qs, urlsplit

from postmark.models.outbound.schemas import Email

from tests.support.http_peer import Asked, Exchange, HttpPeer, Play, says

TOKEN = "7fb1f2a5-0000-4000-8000-2b1e8f3c9d10"


def error(status: int, code: int, message: str) -> Play:
    """A refusal in Postmark's own words."""
    return says(status, {"ErrorCode": code, "Message": message})


def emails(peer: HttpPeer) -> list[Asked]:
    """The requests that send."""
    return [one for one in peer.asked if one.target == "/email"]


class Postmark:
    """Remembers what it took by our reference."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str], str] = {}
        self.problems: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        asked = await exchange.request()
        if asked.headers.get("x-postmark-server-token") != TOKEN:
            text = "Request does not contain a valid Server token."
            await exchange.reply(401, {"ErrorCode": 10, "Message": text})
        elif asked.target == "/server":
            server = {"ID": 1, "Name": "Shop", "ApiTokens": [TOKEN], "DeliveryType": "Live"}
            await exchange.reply(200, server)
        elif asked.target.startswith("/messages/outbound?"):
            await exchange.reply(200, self._found(asked))
        else:
            await exchange.reply(200, self.take(asked))

    def take(self, asked: Asked) -> dict[str, object]:
        """What sending says; the request is held against the models."""
        given = asked.json
        try:
            email = Email.model_validate(given)
            assert asked.headers["content-type"].startswith("application/json")
            assert given["TrackOpens"] is False
            assert given["TrackLinks"] == "None"
        except (ValueError, AssertionError) as problem:
            self.problems.append(str(problem))
            raise
        message_id = str(uuid.uuid4())
        reference = given.get("Metadata", {}).get("postroom", "")
        self.taken[given["MessageStream"], reference] = message_id
        return {
            "To": email.to,
            "SubmittedAt": "2026-01-01T00:00:00.0000000-05:00",
            "MessageID": message_id,
            "ErrorCode": 0,
            "Message": "OK",
        }

    def _found(self, asked: Asked) -> dict[str, object]:
        query = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
        key = (query.get("messagestream", "outbound"), query["metadata_postroom"])
        found = [{"MessageID": self.taken[key], "Status": "Sent"}] if key in self.taken else []
        return {"TotalCount": len(found), "Messages": found}


def postmark_peer() -> HttpPeer:
    """One on a free port; its `default` is a `Postmark`."""
    return HttpPeer(Postmark())
