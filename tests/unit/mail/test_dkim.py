"""What is signed is what dkimpy, somebody else's verifier, believes; and nothing else is believed."""

from __future__ import annotations

import time

import dkim
import pytest

from postroom.mail.compose import compose
from postroom.mail.content import Content, Mailbox
from postroom.mail.dkim import Signer, relaxed_body, sign
from postroom.mail.dkim_keys import Algorithm
from tests.support.dkim_corpus import AT_US, COUNT, corpus, key_of, records, refolded, signers_of, tampered

ANN, BOB = Mailbox("ann@example.com", "Ann"), Mailbox("bob@example.org")
SHORT = compose(
    Content(ANN, (BOB,), subject="Hi", text="Hello\n"), message_id="<1@example.com>", date_us=AT_US
)


def verdicts(message: bytes) -> list[bool]:
    """What dkimpy says of each of our two signatures, which stand on top of any others."""

    def ask(name: bytes, **_: object) -> bytes:
        return records()[name.decode("ascii").rstrip(".")].encode("ascii")

    found = dkim.DKIM(message)
    said = []
    for index in range(2):
        try:
            said.append(found.verify(index, dnsfunc=ask))
        except (dkim.ValidationError, dkim.MessageFormatError):
            said.append(False)
    return said


def test_dkimpy_believes_every_signature() -> None:
    assert len(corpus()) == COUNT
    assert [one.number for one in corpus() if verdicts(one.data) != [True, True]] == []


def test_dkimpy_believes_them_after_a_relay_folded_the_header_anew() -> None:
    assert [one.number for one in corpus() if verdicts(refolded(one.data)) != [True, True]] == []


def test_dkimpy_believes_none_of_a_tampered_message() -> None:
    changed = [one for one in corpus() if verdicts(tampered(one.data, one.number)) != [False, False]]
    assert [one.number for one in changed] == []


@pytest.mark.parametrize(
    ("body", "canonical"),
    [
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),  # RFC 6376 3.4.5
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" \t\r\n \r\n", b""),
        (b"a", b"a\r\n"),
        (b"a \t ", b"a\r\n"),
        (b"\ta", b" a\r\n"),
    ],
)
def test_a_body_is_made_canonical(body: bytes, canonical: bytes) -> None:
    assert relaxed_body(body) == canonical


def test_hostile_blanks_take_no_more_time_than_others() -> None:
    """A run of blanks with something behind it is what makes `[ \\t]+\\r\\n` quadratic."""
    hostile = (b" " * 1_000_000 + b"x\r\n") * 2
    began = time.process_time()
    assert relaxed_body(hostile) == b" x\r\n x\r\n"
    assert time.process_time() - began < 5  # quadratic would be hours


def test_the_same_message_gets_the_same_signature() -> None:
    """A second copy of a message is recognised as one."""
    signers = signers_of("example.com")
    assert sign(SHORT, signers, at_us=AT_US) == sign(SHORT, signers, at_us=AT_US)


def _tag(field: bytes, name: bytes) -> bytes:
    tags = (one.split(b"=", 1) for one in b"".join(field.split()).split(b":", 1)[1].split(b";"))
    return {tag[0]: tag[1] for tag in tags}[name]


def test_what_a_vendor_rewrites_is_not_signed() -> None:
    signers = signers_of("example.com")[1:]
    names = _tag(sign(SHORT, signers, at_us=AT_US), b"h").lower().split(b":")
    assert {b"date", b"message-id"} < set(names)
    left = _tag(sign(SHORT, signers, at_us=AT_US, rewritten={"date", "message-id"}), b"h").lower()
    assert set(names) - set(left.split(b":")) == {b"date", b"message-id"}


def test_what_must_not_be_added_is_signed_once_more_than_it_is_there() -> None:
    names = _tag(sign(SHORT, signers_of("example.com")[1:], at_us=AT_US), b"h").lower().split(b":")
    for name in (b"from", b"to", b"subject", b"date", b"message-id", b"content-type", b"mime-version"):
        assert names.count(name) == 2, name
    for name in (b"cc", b"reply-to", b"list-unsubscribe", b"list-unsubscribe-post"):
        assert names.count(name) == 1, name


def test_no_length_is_signed_and_lines_stay_short() -> None:
    fields = sign(SHORT, signers_of("example.com"), at_us=AT_US)
    assert max(map(len, fields.split(b"\r\n"))) <= 78
    assert fields.count(b"c=relaxed/relaxed;") == 2
    assert b"l=" not in fields.replace(b"Reply-To", b"").split(b"bh=")[0]


def test_a_signer_does_not_show_its_key() -> None:
    signer = Signer("example.com", "s1", Algorithm.ED25519, key_of(Algorithm.ED25519))
    assert repr(signer) == (
        "Signer(domain='example.com', selector='s1', algorithm=<Algorithm.ED25519: 'ed25519'>)"
    )
    assert str(signer) == "ed25519 s1._domainkey.example.com"
