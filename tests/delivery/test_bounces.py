"""What is refused for good, given up or settled as failed leaves a bounce; what goes out leaves none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from postroom.actions import by_hand
from postroom.actions.context import Actor
from postroom.core.message import Purpose, SettledAs
from postroom.core.server import Owner
from postroom.engine.retry import Policy
from tests.support import seed_rows
from tests.support.acting import context
from tests.support.engine import QUICK, bench, sink
from tests.support.stores import on_both

pytestmark = on_both

OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)
GIVES_UP = replace(QUICK, policy=Policy(give_up_transactional_s=0.0))


async def test_refusals_are_kept_by_kind_and_in_the_words_of_who_refused(tmp_path: Path) -> None:
    kinds = {
        "bounce550.1.1@example.net": "hard",
        "bounce552.2.2@example.net": "soft",
        "bounce554.7.1@example.net": "blocked",
        "bounce554.5.0@example.net": "unclear",
        "fine@example.net": None,
    }
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, list(kinds))
        assert await post.until_settled() == {"bounced": 4, "sent": 1}
        rows = await post.rows(
            "SELECT b.recipient, b.kind, b.text, b.report, b.at = d.settled_at, b.public_id = m.public_id"
            " FROM bounces b JOIN deliveries d ON d.delivery_id = b.delivery_id"
            " JOIN messages m ON m.message_id = d.message_id"
        )
        assert {row[0]: row[1] for row in rows} == {who: kind for who, kind in kinds.items() if kind}
        assert all(row[4] and row[5] for row in rows)
        (hard,) = [row for row in rows if row[1] == "hard"]
        assert hard[2].startswith("smtp; 550 5.1.1 ")
        assert "Final-Recipient: rfc822; bounce550.1.1@example.net\r\n" in hard[3]
        assert f"Status: 5.1.1\r\nDiagnostic-Code: {hard[2]}\r\n" in hard[3]


async def test_what_is_given_up_after_deferrals_is_a_bounce_once(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path, settings=GIVES_UP) as post:
        await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["defer452.2.2@example.net", "defer451.7.1@example.net"])
        assert await post.until_settled() == {"bounced": 2}
        rows = await post.rows("SELECT recipient, kind FROM bounces")
        assert {row[0]: row[1] for row in rows} == {
            "defer452.2.2@example.net": "soft",
            "defer451.7.1@example.net": "blocked",
        }


async def test_what_a_person_settles_as_failed_is_a_bounce(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        message = await post.send(Purpose.TRANSACTIONAL, ["ann@example.net"])
        await post.do("UPDATE deliveries SET state = 'unverified'")
        await by_hand.settle(context(post), Actor("Ada"), OWNER, str(message), SettledAs.FAILED)
        rows = await post.rows("SELECT recipient, kind, text FROM bounces")
        assert rows == [("ann@example.net", "unclear", "x-postroom; settled as failed by Ada")]
