"""The small twin of `make fuzz`: some hundred bent requests on real sockets, and never a 500."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.fuzz import OPENAPI, Maker, fuzz, targets_of
from postroom.actions.accounts import AccountChanges, update_account
from tests.dialects.house import build_house
from tests.support.context import ACTOR
from tests.support.http import running_app


async def test_nothing_that_is_sent_is_answered_with_500(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with build_house(tmp_path, "") as house:
        # The server must outlive what is sent at it.
        await update_account(house.ctx, ACTOR, house.account, AccountChanges(may_delete_servers=False))
        token = {"X-Postmark-Server-Token": house.server_key}
        documents = [(await house.call("GET", path, headers=token)).text for path in OPENAPI]
        targets = [target for text in documents for target in targets_of(text)]
        assert len(targets) > 20
        assert any("smtp_port" in names for target in targets for names in target.names.values())
        maker = Maker(1, targets, [house.server_key, house.account_key])
        async with running_app(house.ctx) as url:
            seen = await fuzz(int(url.rpartition(":")[2]), maker, bursts=400)
        # It comes past the first check, and what is refused is refused for many reasons.
        assert seen[200] + seen[201] > 20, seen
        assert len(seen) >= 7, seen
        assert sum(seen.values()) > 200, seen
        assert not [one for one in caplog.records if one.levelname == "ERROR"]
        assert (await house.call("GET", "/api/v1/whoami")).status_code == 200


def test_the_same_seed_makes_the_same_requests() -> None:
    targets = targets_of('{"servers": [{"url": "http://x/api"}], "paths": {"/a/{id}": {"post": {}}}}')
    makers = [Maker(7, targets, ["k"]) for _ in range(2)]
    assert [makers[0].burst() for _ in range(50)] == [makers[1].burst() for _ in range(50)]
