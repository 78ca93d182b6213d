"""A house whose calls carry Postmark's headers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dialects.house import House, build_house

SERVER_TOKEN, ACCOUNT_TOKEN = "X-Postmark-Server-Token", "X-Postmark-Account-Token"


@dataclass
class Postmark:
    """A client of the API with both kinds of token."""

    house: House

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **more: Any
    ) -> httpx.Response:
        """A request with the token its path wants unless told otherwise. more: as httpx takes it."""
        account = path.lower().lstrip("/").startswith(("servers", "postmark/servers", "templates/push"))
        headers = {
            ACCOUNT_TOKEN if account else SERVER_TOKEN: self._usual(account) if token is None else token
        }
        headers |= more.pop("headers", {})
        if body is not None:
            more["json"] = body
        return await self.house.http.request(method, path, headers=headers, **more)

    def _usual(self, account: bool) -> str:
        return self.house.account_key if account else self.house.server_key

    async def ok(self, method: str, path: str, body: object = None, **more: Any) -> Any:  # Any: JSON
        """The answer of a call that succeeds, which is 200 whatever it did."""
        answer = await self.call(method, path, body, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, code: int, method: str, path: str, body: object = None, **more: Any) -> str:
        """The text of a call that is refused with this code, the same in body and header."""
        answer = await self.call(method, path, body, **more)
        said: Mapping[str, object] = answer.json()
        assert said["ErrorCode"] == code, said
        assert answer.headers["X-PM-ApiErrorCode"] == str(code)
        assert answer.headers["content-type"].startswith("application/json")
        expected = {10: 401, 402: 422, 404: 404, 405: 405, 409: 409, 413: 413, 1002: 400}.get(code, 422)
        assert answer.status_code == expected, answer.text
        assert set(said) == {"ErrorCode", "Message"}
        return str(said["Message"])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with build_house(tmp_path, "") as built:
        yield built


@pytest.fixture
def postmark(house: House) -> Postmark:
    return Postmark(house)
