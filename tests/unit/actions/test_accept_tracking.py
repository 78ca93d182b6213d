"""What is stored of a message that asks for tracking, on both databases."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from postroom.actions import accounts, identities, servers
from postroom.actions.accept import Submission, accept_message
from postroom.actions.context import Context
from postroom.core.message import Purpose
from postroom.mail.content import Content, Mailbox, TrackLinks
from postroom.storage import link_targets, messages
from postroom.storage.interface import Rows, Sql, Work
from tests.support.context import ACTOR
from tests.support.stores import on_both

pytestmark = on_both
HTML = "<p><a href='https://shop.example/a?x=1&amp;y=2'>a</a> <a href=https://shop.example/straße>b</a></p>"
TEXT = "https://shop.example/c https://shop.example/a?x=1&y=2"


@pytest.fixture
async def asked(ctx: Context) -> Submission:
    account = await accounts.create_account(ctx, ACTOR, "Acme")
    shop = await servers.create_server(
        ctx, ACTOR, account.account_id, "Shop", default_sender="a@shop.example"
    )
    await identities.trust(ctx, ACTOR, "shop.example", account.account_id)
    return Submission(
        account.account_id,
        shop.server_id,
        Purpose.TRANSACTIONAL,
        "test",
        [Mailbox("ann@example.net"), Mailbox("bob@example.net")],
        html=HTML,
        text=TEXT,
        track_opens=True,
        track_links=TrackLinks.HTML_AND_TEXT,
    )


async def stored(ctx: Context, submission: Submission) -> tuple[Content, Sequence[str]]:
    """What is kept of it, once it was accepted, and the targets of its links."""
    accepted = await accept_message(ctx, submission)

    def work() -> Work[tuple[Content | None, Sequence[str]]]:
        message = yield from messages.get(submission.account_id, None, accepted.message_id)
        assert message is not None
        content = yield from messages.content(submission.account_id, message.content_id)
        return content, (yield from link_targets.of_content(message.content_id))

    content, targets = await ctx.store.read(work)
    assert content is not None
    return content, targets


async def test_links_are_found_once_and_kept_with_their_targets(ctx: Context, asked: Submission) -> None:
    content, targets = await stored(ctx, asked)
    assert (content.html, content.text) == (HTML, TEXT)
    assert content.track_opens
    assert content.track_links is TrackLinks.HTML_AND_TEXT
    assert [one.number for one in content.html_links] == [0, 1]
    assert [one.number for one in content.text_links] == [2, 0]
    assert targets == (
        "https://shop.example/a?x=1&y=2",
        "https://shop.example/straße",
        "https://shop.example/c",
    )


async def test_a_large_message_is_searched_as_well(ctx: Context, asked: Submission) -> None:
    content, _ = await stored(ctx, replace(asked, html=HTML + "<p>x" * 30_000))
    assert len(content.html_links) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"track_links": TrackLinks.NONE},
        {"html": "<a href='mailto:a@b.example'>", "text": "nothing"},
        {"html": None, "text": None, "raw": b"Subject: x\r\n\r\nhttps://shop.example/a\r\n"},
    ],
)
async def test_k6_without_a_link_to_track_nothing_is_stored(
    ctx: Context, asked: Submission, changes: dict[str, object]
) -> None:
    """Raw messages are as their client made and perhaps signed them."""
    content, targets = await stored(ctx, replace(asked, **changes))
    assert (content.html_links, content.text_links) == ((), ())
    assert targets == ()

    def count() -> Work[Rows]:
        return (yield Sql("SELECT COUNT(*) FROM link_targets"))

    assert (await ctx.store.read(count))[0][0] == 0


async def test_nothing_is_tracked_unless_it_is_asked_for(ctx: Context, asked: Submission) -> None:
    plain = Submission(
        asked.account_id, asked.server_id, asked.purpose, "test", asked.to, html=HTML, text=TEXT
    )
    content, _ = await stored(ctx, plain)
    assert (content.track_opens, content.track_links) == (False, TrackLinks.NONE)
    assert (content.html_links, content.text_links) == ((), ())
