"""Sending: one message, batches, the order of checks, every code a sender can provoke, and what is stored."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import Any
from uuid import UUID

import pytest

from postroom.actions import servers, suppressions
from postroom.actions.accept import Accepted, accept_prepared
from postroom.actions.messages import Seen, show_message
from postroom.actions.sending_terms import SendingTerms
from postroom.actions.servers import ServerChanges
from postroom.actions.submission import Submission
from postroom.core.key import Key
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.dialects.postmark import sending
from postroom.dialects.postmark.bodies import Bodies, with_unsubscribe_link
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.mail_fields import Sending, submission_of
from postroom.ids import AccountId, KeyId, ServerId
from postroom.mail.content import Mailbox, TrackLinks
from postroom.storage.interface import Sql, Work
from postroom.storage.sqlite import SqliteStore
from tests.dialects.postmark.conftest import Postmark
from tests.support.context import ACTOR

FROM = "Shop <hello@shop.example>"
PLAIN = {"From": FROM, "To": "Ann <ann@example.net>", "Subject": "Hello", "TextBody": "Hi"}
TEST = "POSTMARK_API_TEST"
ONE_ITEM = {"To", "SubmittedAt", "MessageID", "ErrorCode", "Message"}


async def stored(postmark: Postmark, message_id: str) -> Seen:
    house = postmark.house
    return await show_message(house.ctx, Owner(house.account, house.channel), message_id, with_content=True)


async def count(postmark: Postmark) -> int:
    def work() -> Work[int]:
        rows = yield Sql("SELECT COUNT(*) FROM messages")
        return int(rows[0][0])

    return await postmark.house.ctx.store.read(work)


async def suppress(postmark: Postmark, *addresses: str) -> None:
    house = postmark.house
    await suppressions.suppress(
        house.ctx, ACTOR, Owner(house.account, house.channel), house.channel, list(addresses)
    )


async def test_every_field_is_stored_as_it_was_sent(postmark: Postmark) -> None:
    told = await postmark.ok(
        "POST",
        "/email",
        {
            **PLAIN,
            "Cc": '"Smith, Bob" <bob@example.net>, carl@example.net',
            "Bcc": "dora@example.net",
            "ReplyTo": "a@shop.example, b@shop.example",
            "HtmlBody": "<p>Hi <a href='https://shop.example/x'>x</a></p>",
            "Tag": "welcome",
            "Metadata": {"order": "17", "Größe": "ü"},
            "Headers": [
                {"Name": "X-Shop", "Value": "yes"},
                {"Name": "Message-ID", "Value": "<mine@shop.example>"},
            ],
            "TrackOpens": True,
            "TrackLinks": "htmlandtext",
            "Attachments": [
                {"Name": "a.txt", "Content": "aGVs\r\nbG8=", "ContentType": "text/plain"},
                {
                    "Name": "b.png",
                    "Content": base64.b64encode(b"png").decode(),
                    "ContentType": "image/png",
                    "ContentID": "cid:picture@shop.example",
                },
            ],
            "MessageStream": "outbound",
        },
    )
    assert set(told) == ONE_ITEM
    assert (told["ErrorCode"], told["Message"], told["To"]) == (0, "OK", PLAIN["To"])
    assert str(UUID(told["MessageID"])) == told["MessageID"]
    assert told["SubmittedAt"].endswith(("-05:00", "-04:00"))
    seen = await stored(postmark, told["MessageID"])
    content, message = seen.content, seen.message
    assert content is not None
    assert content.sender == Mailbox("hello@shop.example", "Shop")
    assert content.cc == (Mailbox("bob@example.net", "Smith, Bob"), Mailbox("carl@example.net"))
    assert [one.address for one in content.reply_to] == ["a@shop.example", "b@shop.example"]
    assert content.headers == (("X-Shop", "yes"),)
    assert message.rfc_message_id == "<mine@shop.example>"
    assert [(one.name, one.data, one.content_id) for one in content.attachments] == [
        ("a.txt", b"hello", ""),
        ("b.png", b"png", "picture@shop.example"),
    ]
    assert (content.track_opens, content.track_links) == (True, TrackLinks.HTML_AND_TEXT)
    assert (message.stream, message.purpose) == ("outbound", Purpose.TRANSACTIONAL)
    assert message.options["tag"] == "welcome"
    assert message.options["metadata"] == {"order": "17", "Größe": "ü"}
    assert {(one.recipient, one.kind) for one in seen.deliveries} == {
        ("ann@example.net", "to"),
        ("bob@example.net", "cc"),
        ("carl@example.net", "cc"),
        ("dora@example.net", "bcc"),
    }


async def test_names_fold_case_and_null_is_nothing(postmark: Postmark) -> None:
    body = {
        "from": FROM,
        "TO": "ann@example.net",
        "textbody": "Hi",
        "HTMLBody": None,
        "cc": "",
        "Headers": None,
    }
    told = await postmark.ok("POST", "/postmark/EMAIL/", {**body, "Unknown": {"a": 1}, "Metadata": None})
    assert (await stored(postmark, told["MessageID"])).message.subject == ""


async def test_only_hidden_recipients_are_enough_and_the_first_from_counts(postmark: Postmark) -> None:
    told = await postmark.ok(
        "POST", "/email", {"From": f"{FROM}, other@x.example", "Bcc": "ann@example.net", "HtmlBody": "<p>x"}
    )
    assert "To" not in told


async def test_the_stream_says_what_the_mail_is_for(postmark: Postmark) -> None:
    told = await postmark.ok("POST", "/email", {**PLAIN, "MessageStream": "Broadcast"})
    assert (await stored(postmark, told["MessageID"])).message.purpose is Purpose.BROADCAST


async def test_what_the_server_tracks_holds_for_its_messages(postmark: Postmark) -> None:
    house = postmark.house
    changes = ServerChanges(options={"track_opens": True, "track_links": "TextOnly"})
    await servers.update_server(house.ctx, ACTOR, Owner(house.account), house.channel, changes)
    first = await postmark.ok("POST", "/email", {**PLAIN, "TrackOpens": False})
    second = await postmark.ok("POST", "/email", {**PLAIN, "TrackLinks": "None"})
    contents = [(await stored(postmark, one["MessageID"])).content for one in (first, second)]
    found = [(one.track_opens, one.track_links) for one in contents if one is not None]
    assert found == [(True, TrackLinks.TEXT), (True, TrackLinks.NONE)]


def test_the_place_for_unsubscribing_becomes_a_link() -> None:
    says, found = with_unsubscribe_link(
        Bodies("", '<a href="{{{ pm:unsubscribe }}}">out</a> {{{pm:unsubscribe}}}', "{{{ pm:unsubscribe }}}")
    )
    assert found
    assert says.html == (
        '<a href="{{ unsubscribe_link }}">out</a> <a href="{{ unsubscribe_link }}">Unsubscribe</a>'
    )
    assert says.text == "{{ unsubscribe_link }}"
    assert with_unsubscribe_link(Bodies("", "<p>x", None)) == (Bodies("", "<p>x", None), False)


def test_a_body_has_a_limit_of_its_own() -> None:
    key = Key(KeyId(1), AccountId(1), ServerId(1), "", frozenset(), "", 0)
    sending, says = Sending(key, ServerId(1), SendingTerms({})), Bodies("", "x" * ((5 << 20) + 1), None)
    with pytest.raises(ApiError, match="5 MB"):
        submission_of(sending, Fields(PLAIN), says, "outbound", Purpose.TRANSACTIONAL)


async def test_header_fields_that_are_words_to_the_product_are_taken_out(postmark: Postmark) -> None:
    told = await postmark.ok(
        "POST", "/email", {**PLAIN, "Headers": [{"Name": "x-pm-KeepID", "Value": "true"}]}
    )
    content = (await stored(postmark, told["MessageID"])).content
    assert content is not None
    assert content.headers == ()


# What is wrong, its code, and what the text must hold; in the order in which the product checks.
_WRONG: list[tuple[dict[str, object], int, str]] = [
    ({"Subject": {"a": 1}, "MessageStream": "nowhere"}, 403, "'Subject'"),
    ({"TrackOpens": "perhaps"}, 403, "'TrackOpens'"),
    ({"Headers": {"X-A": "1"}}, 403, "'Headers'"),
    ({"Headers": ["X-A"]}, 403, "'Headers'"),
    ({"Attachments": "file"}, 403, "'Attachments'"),
    ({"Metadata": ["a"]}, 403, "'Metadata'"),
    ({"MessageStream": "nowhere", "To": "x"}, 1235,
     "The stream provided: 'nowhere' does not exist on this server."),
    ({"MessageStream": "inbound", "To": "x"}, 1236, "'inbound'"),
    ({"From": ""}, 300, "Invalid 'From' address: ''."),
    ({"From": "nobody"}, 300, "Invalid 'From' address: 'nobody'."),
    ({"From": "x" * 250 + " <a@shop.example>"}, 300, "255"),
    ({"To": "nobody"}, 300, "Invalid 'To' address: 'nobody'."),
    ({"Cc": "user@+"}, 300, "Error parsing 'Cc': Illegal email"),
    ({"Bcc": "user"}, 300,
     "Error parsing 'Bcc': Illegal email address 'user'. It must contain the '@' symbol."),
    ({"To": ""}, 300, "Zero recipients"),
    ({"To": ",".join(f"u{n}@example.net" for n in range(51))}, 300, "50 recipients"),
    ({"TextBody": ""}, 300, "Provide either email TextBody or HtmlBody or both."),
    ({"Subject": "x" * 2001}, 300, "2000"),
    ({"Subject": "𝄞" * 1001}, 300, "2000"),
    ({"Subject": "a\r\nBcc: evil@example.net"}, 300, "'Subject'"),
    ({"Tag": "x" * 1001}, 300, "'Tag'"),
    ({"Tag": "a\nb"}, 300, "'Tag'"),
    ({"Metadata": {"n" * 21: "x"}}, 300,
     "Invalid metadata content. Field names are limited to 20 characters"),
    ({"Metadata": {"n": "x" * 81}}, 300, "Invalid metadata content."),
    ({"Metadata": {"n": ["x"]}}, 300, "Invalid metadata content."),
    ({"Metadata": {"n": "1", "N": "2"}}, 300, "Invalid metadata content."),
    ({"Metadata": {f"n{n}": "x" for n in range(11)}}, 300, "Invalid metadata content."),
    ({"TrackLinks": "All"}, 300, "'TrackLinks'"),
    ({"Headers": [{"Name": "X-A\r\nB", "Value": "1"}]}, 300, "'Headers'"),
    ({"Headers": [{"Name": "X-A", "Value": "1\r\nBcc: evil@example.net"}]}, 300, "'Headers'"),
    ({"Headers": [{"Name": "From", "Value": "x@example.net"}]}, 300, "'From'"),
    ({"Headers": [{"Name": "Message-ID", "Value": "mine"}]}, 300, "Message-ID"),
    ({"Attachments": [{"Name": "a.txt", "Content": "%%"}]}, 300, "base64"),
    ({"Attachments": [{"Content": "aGk="}]}, 300, "'Name'"),
    ({"Attachments": [{"Name": "run.EXE", "Content": "aGk="}]}, 411, "run.EXE"),
    ({"From": "a@stranger.example"}, 400,
     "The 'From' address you supplied (a@stranger.example) is not a Sender Signature on your account. Please "
     "add and confirm this address in order to be able to use it in the 'From' field of your messages."),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "text"), _WRONG)
async def test_what_is_wrong_is_told_with_its_code(
    postmark: Postmark, changes: dict[str, object], code: int, text: str
) -> None:
    body = {**PLAIN, **changes}
    assert text in await postmark.refused(code, "POST", "/email", body)
    told = await postmark.ok("POST", "/email/batch", [body, PLAIN])
    assert told[0]["ErrorCode"] == code
    assert text in told[0]["Message"]
    assert told[1]["ErrorCode"] == 0
    assert await count(postmark) == 1


async def test_bodies_of_another_shape_are_402(postmark: Postmark) -> None:
    for content in (b"", b"null", b"[]", b"{", b'{"From": "a", "from": "b"}', b'"text"', b"[" * 100):
        await postmark.refused(402, "POST", "/email", content=content)
    for content in (b"", b"{}", b"null", b"[", b"1"):
        await postmark.refused(402, "POST", "/email/batch", content=content)
    told = await postmark.ok("POST", "/email/batch", [1, None, [], {"To": ["x"]}, PLAIN])
    assert [one["ErrorCode"] for one in told] == [403, 403, 403, 403, 0]
    assert all(set(one) == ONE_ITEM for one in told)
    assert await postmark.ok("POST", "/email/batch", []) == []


async def test_tokens(postmark: Postmark) -> None:
    house = postmark.house
    await postmark.refused(10, "POST", "/email", PLAIN, token="prs_wrong")
    await postmark.refused(10, "POST", "/email", PLAIN, token=house.account_key)
    await postmark.refused(10, "POST", "/email", PLAIN, token=await house.key("transactionals_read"))
    await postmark.ok("POST", "/email", PLAIN, token=await house.key("transactionals_write"))
    await postmark.refused(400, "POST", "/email", PLAIN, token=house.foreign_key)


async def test_the_test_token_checks_all_and_stores_nothing(postmark: Postmark) -> None:
    told = await postmark.ok("POST", "/email", {**PLAIN, "From": "a@stranger.example"}, token=TEST)
    assert (told["Message"], told["ErrorCode"], told["To"]) == ("Test job accepted", 0, PLAIN["To"])
    assert UUID(told["MessageID"]).version == 4
    await postmark.refused(300, "POST", "/email", {**PLAIN, "To": "x"}, token=TEST)
    await postmark.refused(1235, "POST", "/email", {**PLAIN, "MessageStream": "x"}, token=TEST.lower())
    await postmark.refused(
        300, "POST", "/email", {**PLAIN, "Headers": [{"Name": "a b", "Value": "c"}]}, token=TEST
    )
    told = await postmark.ok("POST", "/email/batch", [PLAIN, {**PLAIN, "To": ""}], token=TEST)
    assert [one["ErrorCode"] for one in told] == [0, 300]
    assert await count(postmark) == 0
    await postmark.refused(10, "GET", "/server", token=TEST)


async def test_suppressed_recipients(postmark: Postmark) -> None:
    await suppress(postmark, "gone@example.net", "lost@example.net")
    inactive = (
        "Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual "
    )
    inactive += "suppression."
    text = await postmark.refused(
        406, "POST", "/email", {**PLAIN, "To": "Gone <GONE@example.net>, lost@example.net"}
    )
    assert text == (
        "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
        f"gone@example.net, lost@example.net. {inactive}"
    )
    assert await count(postmark) == 0
    told = await postmark.ok(
        "POST", "/email", {**PLAIN, "To": "ann@example.net", "Cc": "Gone@example.net, lost@example.net"}
    )
    assert (told["ErrorCode"], told["Message"]) == (
        0,
        "Message OK, but will not deliver to these inactive addresses: gone@example.net, lost@example.net. "
        + inactive,
    )
    states = {one.recipient: one.state for one in (await stored(postmark, told["MessageID"])).deliveries}
    assert states["Gone@example.net"] == "suppressed"
    assert states["ann@example.net"] != "suppressed"
    await postmark.refused(
        400, "POST", "/email", {**PLAIN, "To": "gone@example.net", "From": "a@stranger.example"}
    )


async def test_a_batch_answers_in_order_and_has_a_limit(postmark: Postmark) -> None:
    await suppress(postmark, "gone@example.net")
    many: list[dict[str, object]] = [
        {**PLAIN, "Subject": str(n), "To": f"u{n}@example.net"} for n in range(120)
    ]
    many[7] = {**PLAIN, "To": "gone@example.net"}
    many[110] = {**PLAIN, "To": "nobody"}
    told: list[dict[str, Any]] = await postmark.ok("POST", "/email/batch", many)
    assert [one["To"] for one in told] == [one["To"] for one in many]
    assert {n: one["ErrorCode"] for n, one in enumerate(told) if one["ErrorCode"]} == {7: 406, 110: 300}
    assert told[7]["MessageID"] == str(UUID(int=0))
    assert (await stored(postmark, told[50]["MessageID"])).message.subject == "50"
    assert await count(postmark) == 118
    assert "500 messages" in await postmark.refused(410, "POST", "/email/batch", [PLAIN] * 501)
    assert await count(postmark) == 118


async def test_between_the_messages_of_a_batch_others_have_their_turn_and_all_are_stored_at_once(
    postmark: Postmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in, rounds, read = [], 0, sending.read_plain

    def noted(*given: Any) -> Submission:
        read_in.append(rounds)
        return read(*given)

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(sending, "read_plain", noted)
    store = postmark.house.ctx.store
    assert isinstance(store, SqliteStore)
    commits = store.commits
    other = asyncio.create_task(others())
    try:
        batches = [[{**PLAIN, "Subject": str(n)} for n in range(60)] for _ in range(3)]
        for told in await asyncio.gather(*(postmark.ok("POST", "/email/batch", one) for one in batches)):
            assert all(one["ErrorCode"] == 0 for one in told)
    finally:
        other.cancel()
    assert len(read_in) == len(set(read_in)) == 180  # never two in one round of the loop, whosever they are
    assert store.commits - commits <= 12


async def test_no_message_of_a_batch_is_stored_before_the_last_was_read(
    postmark: Postmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    read = sending.read_plain

    def reads(*given: Any) -> Submission:
        steps.append("read")
        return read(*given)

    async def stores(*given: Any) -> Accepted:
        steps.append("store")
        return await accept_prepared(*given)

    monkeypatch.setattr(sending, "read_plain", reads)
    monkeypatch.setattr(sending, "accept_prepared", stores)
    await postmark.ok("POST", "/email/batch", [PLAIN] * 20)
    assert steps == ["read"] * 20 + ["store"] * 20


async def test_only_a_large_message_is_read_beside_the_loop(
    postmark: Postmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, str] = {}
    read = sending.read_plain

    def noted(whose: Sending, fields: Fields) -> Submission:
        threads[str(fields.text("Subject"))] = threading.current_thread().name
        return read(whose, fields)

    monkeypatch.setattr(sending, "read_plain", noted)
    many = [{**PLAIN, "Subject": str(n)} for n in range(5)]
    file = {
        "Name": "a.txt",
        "Content": base64.b64encode(bytes(300_000)).decode(),
        "ContentType": "text/plain",
    }
    many[3]["Attachments"] = [file]  # type: ignore[assignment]
    await postmark.ok("POST", "/email/batch", many)
    here = threading.current_thread().name
    assert {name for name, thread in threads.items() if thread != here} == {"3"}
    await postmark.ok("POST", "/email", many[3] | {"Subject": "alone"})
    assert threads["alone"] != here


def test_the_weight_of_a_message_is_about_its_size_however_deep_it_lies() -> None:
    small = Fields(PLAIN).weight
    assert 0 < small < 1000
    assert Fields({**PLAIN, "HtmlBody": "x" * 5000}).weight == small + 5000
    deep = {"a": [{"b": ["x" * 5000, 1, None, True]}]}
    assert small + 5000 < Fields({**PLAIN, "TemplateModel": deep}).weight < small + 5200
    assert Fields({**PLAIN, "TemplateModel": {"a": [0] * 5000}}).weight > 5000


async def test_a_request_that_is_too_large_is_413(postmark: Postmark) -> None:
    await postmark.refused(413, "POST", "/email", {**PLAIN, "TextBody": "x" * (2 << 20)})
