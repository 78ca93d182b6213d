"""Postmark by its API: requests its official models accept, what every answer means, and the search."""

from __future__ import annotations

from base64 import b64decode

import pytest
from postmark.models.outbound.schemas import Email

from postroom.mail.content import Attachment, Content, Mailbox
from postroom.transports.interface import Fault, Found, OpenFailed, Outcome, Phase, Result
from tests.delivery.apis.speaking import (
    AUTHOR,
    MESSAGE_ID,
    RECIPIENT,
    REFERENCE,
    Watch,
    envelope,
    postmark_speaker,
    session,
    through_postmark,
    transport,
)
from tests.support.http_peer import HttpPeer, Play, says
from tests.support.postmark_peer import TOKEN, emails, error, postmark_peer

WHOLE = Content(
    Mailbox(AUTHOR, 'Ann "A." Shop'),
    (Mailbox(RECIPIENT, "Böb"),),
    reply_to=(Mailbox("help@example.com"),),
    subject="Grüße",
    text="hello",
    html="<html><body><p>hello</p></body></html>",
    preheader="At a glance",
    headers=(("X-Campaign", "spring"), ("List-Unsubscribe", "<https://example.com/u>")),
    attachments=(
        Attachment("a.txt", "text/plain", b"attached"),
        Attachment("i.png", "image/png", b"\x89PNG", content_id="logo"),
    ),
)


async def test_a_message_goes_out_in_parts() -> None:
    outcome, peer = await through_postmark(sent=envelope(WHOLE))
    assert outcome.result is Result.SENT
    assert outcome.remote_id == peer.default.taken["outbound", REFERENCE]  # type: ignore[union-attr]  # a Postmark
    [asked] = emails(peer)
    given = asked.json
    assert given["From"] == '"Ann \\"A.\\" Shop" <shop@example.com>'
    assert given["To"] == f'"Böb" <{RECIPIENT}>'
    assert given["ReplyTo"] == "help@example.com"
    assert (given["Subject"], given["TextBody"]) == ("Grüße", "hello")
    assert "At a glance" in given["HtmlBody"]
    assert given["MessageStream"] == "outbound"
    assert given["Metadata"] == {"postroom": REFERENCE}
    assert {one["Name"]: one["Value"] for one in given["Headers"]} == {
        "Message-ID": MESSAGE_ID,
        "X-PM-KeepID": "true",
        "X-Campaign": "spring",
        "List-Unsubscribe": "<https://example.com/u>",
    }
    plain, inline = given["Attachments"]
    assert (b64decode(plain["Content"]), "ContentID" in plain) == (b"attached", False)
    assert inline["ContentID"] == "cid:logo"
    assert not {"Cc", "Bcc", "Tag"} & set(given)
    email = Email.model_validate(given)
    assert email.sender == given["From"]


@pytest.mark.parametrize(
    ("content", "text", "html"),
    [
        (Content(Mailbox(AUTHOR), (Mailbox(RECIPIENT),), html="<p>x</p>"), None, "<p>x</p>"),
        (Content(Mailbox(AUTHOR), (Mailbox(RECIPIENT),), text="x"), "x", None),
        (Content(Mailbox(AUTHOR), (Mailbox(RECIPIENT),)), " ", None),
    ],
    ids=["HTML alone", "text alone", "neither"],
)
async def test_what_a_message_does_not_have_is_not_said(
    content: Content, text: str | None, html: str | None
) -> None:
    outcome, peer = await through_postmark(sent=envelope(content))
    assert outcome.result is Result.SENT
    given = emails(peer)[0].json
    assert (given.get("TextBody"), given.get("HtmlBody")) == (text, html)
    assert "Attachments" not in given


async def test_bulk_goes_to_the_broadcast_stream() -> None:
    _, peer = await through_postmark(sent=envelope(bulk=True))
    assert emails(peer)[0].json["MessageStream"] == "broadcast"


RETURNED, BOUNCED, DEFERRED, UNKNOWN = Result.RETURNED, Result.BOUNCED, Result.DEFERRED, Result.UNKNOWN
ANSWERS: dict[str, tuple[Play, Result, Fault]] = {
    "10 token": (error(401, 10, "no valid Server token"), RETURNED, Fault.LOGIN),
    "300 From": (error(422, 300, "Invalid 'From' address: 'x'."), RETURNED, Fault.SENDER),
    "300 To": (error(422, 300, "Invalid 'To' address: 'x'."), BOUNCED, Fault.MESSAGE),
    "400": (error(422, 400, "The 'From' address is not a Sender Signature"), RETURNED, Fault.SENDER),
    "401": (error(422, 401, "Sender signature not confirmed"), RETURNED, Fault.SENDER),
    "402": (error(422, 402, "Invalid JSON"), BOUNCED, Fault.MESSAGE),
    "405": (error(422, 405, "out of credits"), RETURNED, Fault.CONNECTION),
    "406": (error(422, 406, "marked as inactive"), BOUNCED, Fault.RECIPIENT),
    "411": (error(422, 411, "Attachment type not allowed"), BOUNCED, Fault.MESSAGE),
    "412": (error(422, 412, "pending approval"), DEFERRED, Fault.MESSAGE),
    "413": (error(422, 413, "may not send"), RETURNED, Fault.LOGIN),
    "429": (error(429, 429, "Rate limit exceeded"), RETURNED, Fault.CONNECTION),
    "1235": (error(422, 1235, "no such stream"), RETURNED, Fault.CONNECTION),
    "1480": (error(401, 1480, "address not allowed"), RETURNED, Fault.LOGIN),
    "100": (error(503, 100, "maintenance"), RETURNED, Fault.CONNECTION),
    "HTTP 413": (says(413, b"<html>"), BOUNCED, Fault.MESSAGE),
    "HTTP 500": (error(500, 0, "oops"), DEFERRED, Fault.CONNECTION),
    "HTTP 500 unsigned": (says(500, b"<html>"), UNKNOWN, Fault.CONNECTION),
    "HTTP 503": (says(503, b""), RETURNED, Fault.CONNECTION),
    "redirect": (says(302, b"", "Location: http://127.0.0.1/\r\n"), RETURNED, Fault.CONNECTION),
    "proxy's 403": (says(403, b"<html>"), RETURNED, Fault.LOGIN),
    "garbage": (says(200, b"\xff\xfe"), UNKNOWN, Fault.CONNECTION),
    "yes without a number": (says(200, {"ErrorCode": 0}), UNKNOWN, Fault.CONNECTION),
    "a code that is none": (says(422, {"ErrorCode": "x"}), RETURNED, Fault.CONNECTION),
    "may be delayed": (says(200, {"MessageID": "m", "Message": "may be delayed"}), Result.SENT, Fault.NONE),
}


@pytest.mark.parametrize(("play", "result", "fault"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_taken_for_what_it_says(play: Play, result: Result, fault: Fault) -> None:
    outcome, _ = await through_postmark([play])
    assert (outcome.result, outcome.fault) == (result, fault)
    assert outcome.begun
    assert outcome.text


async def test_only_parts_can_be_said() -> None:
    for sent in (envelope(parts=None), envelope(Content(Mailbox(AUTHOR), raw=b"Subject: x\r\n\r\nx"))):
        outcome, peer = await through_postmark(sent=sent)
        assert (outcome.result, outcome.begun) == (DEFERRED, False)
        assert emails(peer) == []


async def test_what_postmark_cannot_carry_is_not_tried() -> None:
    big = Content(Mailbox(AUTHOR), (Mailbox(RECIPIENT),), text="x" * (10 << 20))
    for sent in (envelope(big), envelope(utf8=True)):
        outcome, peer = await through_postmark(sent=sent)
        assert (outcome.result, outcome.fault, outcome.begun) == (BOUNCED, Fault.MESSAGE, False)
        assert emails(peer) == []


async def test_a_check_names_the_server_and_never_a_token() -> None:
    async with postmark_peer() as peer:
        checked = await transport(peer, postmark_speaker()).check()
    assert checked.outcome == Outcome(
        Result.SENT, Fault.NONE, Phase.DONE, 200, text="connected, no TLS, the token of server 'Shop'"
    )
    assert TOKEN not in checked.outcome.text


async def test_a_sandbox_says_so() -> None:
    async with HttpPeer(says(200, {"ID": 1, "Name": "Try", "DeliveryType": "Sandbox"})) as peer:
        checked = await transport(peer, postmark_speaker()).check()
    assert "sandbox" in checked.outcome.text


async def test_a_wrong_token_opens_no_session() -> None:
    async with postmark_peer() as peer:
        with pytest.raises(OpenFailed) as caught:
            await transport(peer, postmark_speaker("other")).open()
    assert (caught.value.outcome.fault, caught.value.outcome.phase) == (Fault.LOGIN, Phase.AUTH)


async def test_a_message_that_was_taken_is_found_by_our_reference_in_its_stream() -> None:
    async with postmark_peer() as peer:
        way = transport(peer, postmark_speaker())
        assert await way.find(REFERENCE, bulk=False) is None
        async with session(way) as made:
            sent = await made.deliver(envelope(), Watch())
        assert await way.find(REFERENCE, bulk=False) == Found(sent.remote_id)
        assert await way.find(REFERENCE, bulk=True) is None
        assert await way.find("another", bulk=False) is None


@pytest.mark.parametrize(
    "play",
    [
        says(500, b""),
        says(200, b"{"),
        says(200, {"Messages": "x"}),
        says(200, {"Messages": [1]}),
        says(200, {"Messages": [{"MessageID": 7}]}),
        says(422, {"ErrorCode": 700, "Messages": [{"MessageID": "m"}]}),
    ],
)
async def test_a_search_that_fails_finds_nothing(play: Play) -> None:
    async with HttpPeer(play) as peer:
        assert await transport(peer, postmark_speaker()).find(REFERENCE, bulk=False) is None
