"""Amazon SES by its API: what is asked, signed as botocore checks it, and what every answer means."""

from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest
from moto.ses.models import ses_backends
from moto.sesv2.models import sesv2_backends
from werkzeug.serving import make_server

from postroom.mail.compose import compose
from postroom.transports.apis.amazon_ses import AmazonSes, SesKey
from postroom.transports.dialer import Dialer, DialPrivate
from postroom.transports.http_url import read_url
from postroom.transports.interface import Fault, OpenFailed, Outcome, Phase, Quota, Result
from tests.delivery.apis.speaking import (
    AUTHOR,
    CONTENT,
    MESSAGE_ID,
    PATIENT,
    RECIPIENT,
    REFERENCE,
    Watch,
    envelope,
    ses_speaker,
    session,
    through_ses,
    transport,
)
from tests.support.http_peer import HttpPeer, Play, says
from tests.support.ses_peer import ACCOUNT, REGION, SECRET_KEY, error, is_signed, ses_peer


async def test_a_message_goes_out_as_it_was_composed_and_signed() -> None:
    outcome, peer = await through_ses()
    assert outcome == Outcome(
        Result.SENT, Fault.NONE, Phase.DONE, 200, text="taken by Amazon SES", remote_id="0102-2", begun=True
    )
    assert is_signed(peer.asked[1])
    body = peer.asked[1].json
    assert body["Destination"] == {"ToAddresses": [RECIPIENT]}
    assert body["EmailTags"] == [{"Name": "postroom", "Value": REFERENCE}]
    assert set(body) == {"Content", "Destination", "EmailTags"}
    data = b64decode(body["Content"]["Raw"]["Data"])
    assert data == compose(CONTENT, message_id=MESSAGE_ID, date_us=0)
    assert message_from_bytes(data, policy=policy.default)["subject"] == "Grüße"


async def test_a_changed_byte_breaks_the_signature() -> None:
    _, peer = await through_ses()
    asked = peer.asked[1]
    assert not is_signed(type(asked)(asked.method, asked.target, asked.headers, asked.body + b" "))


async def test_a_configuration_set_and_a_return_path_are_named() -> None:
    async with ses_peer() as peer:
        speaker = ses_speaker(peer, configuration_set="events")
        async with session(transport(peer, speaker)) as made:
            await made.deliver(envelope(sender="bounces@example.com"), Watch())
    body = peer.asked[1].json
    assert body["ConfigurationSetName"] == "events"
    assert body["FeedbackForwardingEmailAddress"] == "bounces@example.com"


NOT_VERIFIED = (
    "Email address is not verified. The following identities failed the check in region EU-WEST-1: "
)
RETURNED, BOUNCED, DEFERRED, UNKNOWN = Result.RETURNED, Result.BOUNCED, Result.DEFERRED, Result.UNKNOWN
ANSWERS: dict[str, tuple[Play, Result, Fault]] = {
    "throttled": (error(429, "TooManyRequestsException", "Too fast"), RETURNED, Fault.CONNECTION),
    "rate": (error(400, "ThrottlingException", "Maximum sending rate exceeded."), RETURNED, Fault.CONNECTION),
    "quota": (
        error(400, "LimitExceededException", "Daily message quota exceeded"),
        RETURNED,
        Fault.CONNECTION,
    ),
    "paused": (error(400, "SendingPausedException", "paused"), RETURNED, Fault.LOGIN),
    "suspended": (error(400, "AccountSuspendedException", "for good"), RETURNED, Fault.LOGIN),
    "no such key": (error(403, "UnrecognizedClientException", "token"), RETURNED, Fault.LOGIN),
    "wrong secret": (error(403, "InvalidSignatureException", "does not match"), RETURNED, Fault.LOGIN),
    "clock": (
        error(403, "InvalidSignatureException", "Signature expired: 1 < 2"),
        RETURNED,
        Fault.CONNECTION,
    ),
    "policy": (error(403, "AccessDeniedException", "not authorized"), RETURNED, Fault.SENDER),
    "MAIL FROM": (error(400, "MailFromDomainNotVerifiedException", "no MX"), RETURNED, Fault.SENDER),
    "From": (error(400, "MessageRejected", NOT_VERIFIED + AUTHOR), RETURNED, Fault.SENDER),
    "From's domain": (
        error(400, "MessageRejected", NOT_VERIFIED + "a@b.c, example.com"),
        RETURNED,
        Fault.SENDER,
    ),
    "sandbox": (error(400, "MessageRejected", NOT_VERIFIED + RECIPIENT), BOUNCED, Fault.MESSAGE),
    "content": (error(400, "MessageRejected", "Virus"), BOUNCED, Fault.MESSAGE),
    "bad request": (error(400, "BadRequestException", "Missing final '@domain'"), BOUNCED, Fault.MESSAGE),
    "no configuration set": (
        error(404, "NotFoundException", "<x> does not exist"),
        RETURNED,
        Fault.CONNECTION,
    ),
    "too large": (says(413, b"<html>"), BOUNCED, Fault.MESSAGE),
    "failure": (error(500, "InternalFailure", "oops"), DEFERRED, Fault.CONNECTION),
    "failure unsigned": (says(500, b"<html>"), UNKNOWN, Fault.CONNECTION),
    "bad gateway": (says(502, b"<html>"), UNKNOWN, Fault.CONNECTION),
    "unavailable": (says(503, b""), RETURNED, Fault.CONNECTION),
    "gateway timeout": (error(504, "Timeout", "late"), UNKNOWN, Fault.CONNECTION),
    "redirect": (says(307, b"", "Location: http://127.0.0.1/\r\n"), RETURNED, Fault.CONNECTION),
    "not SES": (says(404, b"<html>"), RETURNED, Fault.CONNECTION),
    "yes in no words": (says(200, b"<html>"), UNKNOWN, Fault.CONNECTION),
    "yes without a number": (says(200, {"MessageId": 7}), UNKNOWN, Fault.CONNECTION),
    "deep JSON": (says(200, b"[" * 100_000), UNKNOWN, Fault.CONNECTION),
}


@pytest.mark.parametrize(("play", "result", "fault"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_taken_for_what_it_says(play: Play, result: Result, fault: Fault) -> None:
    outcome, _ = await through_ses([play])
    assert (outcome.result, outcome.fault) == (result, fault)
    assert outcome.begun
    assert outcome.text
    assert "\n" not in outcome.text


async def test_what_ses_cannot_carry_is_not_tried() -> None:
    outcome, peer = await through_ses(sent=envelope(utf8=True))
    assert (outcome.result, outcome.fault, outcome.begun) == (BOUNCED, Fault.MESSAGE, False)
    outcome, peer = await through_ses(sent=envelope(content=lambda: b"x" * (40 << 20) + b"x"))
    assert (outcome.result, outcome.enhanced) == (BOUNCED, "5.3.4")
    assert len(peer.asked) == 1


async def test_a_check_reads_the_quota() -> None:
    async with ses_peer() as peer:
        checked = await transport(peer, ses_speaker(peer)).check()
    assert checked.outcome.result is Result.SENT
    assert checked.quota == Quota(50_000, 120, 14.0)
    assert checked.outcome.text == (
        "connected, no TLS, the key is good, 120 of 50000 sent in 24 hours, 14 a second"
    )


CHECKS: dict[str, tuple[Play, Result, Fault, Quota | None]] = {
    "unlimited": (says(200, {"SendQuota": {"Max24HourSend": -1}}), Result.SENT, Fault.NONE, Quota()),
    "odd numbers": (
        says(200, b'{"SendQuota": {"Max24HourSend": "x", "MaxSendRate": 1e999, "SentLast24Hours": true}}'),
        Result.SENT,
        Fault.NONE,
        Quota(),
    ),
    "may not read": (error(403, "AccessDeniedException", "no"), Result.SENT, Fault.NONE, None),
    "shut down": (
        says(200, {**ACCOUNT, "SendingEnabled": False, "EnforcementStatus": "SHUTDOWN"}),
        RETURNED,
        Fault.LOGIN,
        Quota(50_000, 120, 14.0),
    ),
    "key": (error(403, "UnrecognizedClientException", "no"), RETURNED, Fault.LOGIN, None),
    "throttled": (error(429, "TooManyRequestsException", "no"), RETURNED, Fault.CONNECTION, None),
    "not SES": (says(404, b"<html>"), RETURNED, Fault.CONNECTION, None),
    "garbage": (says(200, b"{"), RETURNED, Fault.CONNECTION, None),
}


@pytest.mark.parametrize(("play", "result", "fault", "quota"), CHECKS.values(), ids=CHECKS)
async def test_a_check_is_taken_for_what_it_says(
    play: Play, result: Result, fault: Fault, quota: Quota | None
) -> None:
    async with HttpPeer(play) as peer:
        checked = await transport(peer, ses_speaker(peer)).check()
    assert (checked.outcome.result, checked.outcome.fault, checked.quota) == (result, fault, quota)


async def test_a_wrong_secret_opens_no_session_and_is_not_repeated() -> None:
    async with ses_peer() as peer:
        with pytest.raises(OpenFailed) as caught:
            await transport(peer, ses_speaker(peer, secret="another" + SECRET_KEY)).open()
    assert (caught.value.outcome.fault, caught.value.outcome.phase) == (Fault.LOGIN, Phase.AUTH)
    assert SECRET_KEY not in caught.value.outcome.text


async def test_a_secret_that_ses_repeats_is_not_shown() -> None:
    outcome, _ = await through_ses([error(400, "BadRequestException", f"bad: {SECRET_KEY}\r\nX: y")])
    assert SECRET_KEY not in outcome.text
    assert "\n" not in outcome.text


@pytest.fixture
def moto() -> Iterator[str]:
    """moto's SES on a free port; GetAccount, which it lacks, is answered here."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    inner = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/v2/email/account":
            start("200 OK", [("Content-Type", "application/json")])
            return [b'{"SendingEnabled": true, "SendQuota": {"Max24HourSend": 200}}']
        answered: Iterable[bytes] = inner(environ, start)
        return answered

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    for backends in (ses_backends, sesv2_backends):
        backends.reset()


async def test_moto_takes_it_as_ses_would(moto: str) -> None:
    from postroom.transports.api import ApiTarget, ApiTransport

    url = read_url(moto)
    speaker = AmazonSes(SesKey("AKIA", "secret", REGION), url, most_bytes=1 << 20)
    way = ApiTransport(ApiTarget(url, PATIENT), speaker, Dialer(DialPrivate.ALL))
    async with session(way) as made:
        refused = await made.deliver(envelope(), Watch())
    assert (refused.result, refused.fault) == (RETURNED, Fault.SENDER)
    sesv2_backends["123456789012"][REGION].create_email_identity(AUTHOR, None, None, None)
    async with session(way) as made:
        taken = await made.deliver(envelope(), Watch())
    assert taken.result is Result.SENT
    [kept] = ses_backends["123456789012"][REGION].sent_messages
    assert (kept.id, kept.source) == (taken.remote_id, AUTHOR)
    assert kept.raw_data.encode() == compose(CONTENT, message_id=MESSAGE_ID, date_us=0)
