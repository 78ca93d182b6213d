"""The small twin of `python -m drills.schemas`: what the document says, and whether each answer is in it."""

from __future__ import annotations

import asyncio

from drills.schemas import document_of, judge, known_of
from postroom.actions.accounts import AccountChanges, update_account
from tests.dialects.house import House
from tests.dialects.postmark.conftest import ACCOUNT_TOKEN, SERVER_TOKEN
from tests.support.context import ACTOR
from tests.support.http import running_app

EXAMPLES = 2


async def test_no_answer_is_another_than_the_document_has(house: House) -> None:
    # The server must outlive what is asked of it.
    await update_account(house.ctx, ACTOR, house.account, AccountChanges(may_delete_servers=False))
    headers = {SERVER_TOKEN: house.server_key, ACCOUNT_TOKEN: house.account_key}

    async with running_app(house.ctx) as url:

        def work() -> None:
            known = known_of(url, headers, house.channel, "hello@shop.example")
            judged = judge(document_of(url, house.server_key), url, headers, known, examples=EXAMPLES)
            assert judged.problems == []
            assert judged.seen[200] > 10, judged.seen
            assert judged.seen[422] > 10, judged.seen
            assert judged.seen[401] == 0, judged.seen

        await asyncio.to_thread(work)
