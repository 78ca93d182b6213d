"""Messages a client made itself: kept, but for what must not leave and what is missing."""

from __future__ import annotations

import email

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from postroom.mail.compose import compose, needs_eight_bit, needs_utf8, parts_size
from postroom.mail.content import Content, Mailbox
from postroom.mail.raw import normalise_line_ends, raw_message_id, split_raw

MESSAGE_ID = "<new@example.com>"
DATE_US = 1_700_000_000_000_000
DATE = b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"


def content(raw: bytes) -> Content:
    return Content(Mailbox("ann@example.com"), raw=raw)


def composed(raw: bytes, extra: tuple[tuple[str, str], ...] = ()) -> bytes:
    return compose(content(raw), message_id=MESSAGE_ID, date_us=DATE_US, extra_headers=extra)


def test_a_complete_message_stays_as_it_is() -> None:
    raw = (
        b"Date: x\r\nmessage-id: <a@b>\r\nFROM:  Ann\r\n <a@b.de>\r\nSubject: =?x?=\r\n\r\n.body \xff\r\n\r\n"
    )
    assert composed(raw) == raw


def test_missing_fields_are_supplied_on_top() -> None:
    assert (
        composed(b"From: a@b.de\r\n\r\nhi")
        == DATE + b"Message-ID: <new@example.com>\r\nFrom: a@b.de\r\n\r\nhi\r\n"
    )


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (b"Message-ID: <a@b>", "<a@b>"),
        (b"message-id :\r\n <a@b>\r\n (of the shop)", "<a@b>"),
        (b"Message-ID: <a@b>\r\nMessage-ID: <second@b>", "<a@b>"),
        (b"Message-ID: no brackets@b", "no brackets@b"),
        (b"Message-ID: <\xff@b>", "<\ufffd@b>"),
        (b"Message-ID: <" + b"x" * 2000, "<" + "x" * 997),
    ],
)
def test_a_message_id_of_its_own_is_kept_and_told(field: bytes, told: str) -> None:
    raw = b"Date: x\r\n" + field + b"\r\n\r\nMessage-ID: <body@b>\r\n"
    assert raw_message_id(raw) == told
    assert raw_message_id(raw.replace(b"\r\n", b"\n")) == told
    assert composed(raw) == raw


@pytest.mark.parametrize("field", [b"", b"Message-ID:\r\n", b"Message-ID: \r\n \r\n"])
def test_an_empty_message_id_is_none(field: bytes) -> None:
    raw = b"Date: x\r\n" + field + b"X: 1\r\n\r\n"
    assert raw_message_id(raw) == ""
    assert composed(raw) == b"Message-ID: <new@example.com>\r\nDate: x\r\nX: 1\r\n\r\n"


def test_the_trace_goes_on_top() -> None:
    made = replace(content(b"From: a@b.de\r\n\r\nhi\r\n"), trace="Received: by us\r\n")
    sent = compose(made, message_id=MESSAGE_ID, date_us=DATE_US)
    assert sent.startswith(b"Received: by us\r\nDate: ")


def test_bcc_goes_with_its_folds_and_every_copy() -> None:
    raw = b"BCC: x@y.de,\r\n z@y.de\r\nDate: x\r\nMessage-ID: <a@b>\r\nbcc : q@y.de\r\n"
    raw += b"Resent-Bcc: r@y.de\r\nReturn-Path: <s@y.de>\r\nX: 1\r\n\r\nBcc: stays\r\n"
    assert composed(raw) == b"Date: x\r\nMessage-ID: <a@b>\r\nX: 1\r\n\r\nBcc: stays\r\n"


def test_extra_headers_replace_a_forged_copy() -> None:
    raw = b"x-postroom-ref: forged\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n"
    assert (
        composed(raw, (("X-Postroom-Ref", "r"),))
        == b"X-Postroom-Ref: r\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b" folded onto ours\r\nFrom: a@b.de\r\n\r\nhi",
        b"no colon here\r\nBcc: x\r\n\r\nhi",
        b"\r\nBody only",
        b"",
        b": empty name\r\n",
        b"\x00: nul\r\n",
    ],
)
def test_what_is_no_header_becomes_body_and_never_joins_ours(raw: bytes) -> None:
    message = email.message_from_bytes(composed(raw, (("X-Postroom-Ref", "r"),)))
    assert message["X-Postroom-Ref"] == "r"
    assert message["Message-ID"] == MESSAGE_ID
    assert message["Bcc"] is None


def test_mbox_line_is_dropped() -> None:
    assert b"From ann" not in composed(b"From ann Mon Jan 1\nSubject: x\n\nhi")


@pytest.mark.parametrize("line_end", [b"\r", b"\n", b"\r\n"])
def test_s3_line_ends_are_the_same_everywhere(line_end: bytes) -> None:
    raw = line_end.join([b"Date: x", b"Message-ID: <a@b>", b"X: 1", b" 2", b"", b"a", b"", b".", b"b", b""])
    assert composed(raw) == b"Date: x\r\nMessage-ID: <a@b>\r\nX: 1\r\n 2\r\n\r\na\r\n\r\n.\r\nb\r\n"


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"\r\n", b"Bcc:", b"bcc :", b" ", b"a", b"X:", b"From ", b"\xff"]),
        max_size=20,
    ).map(b"".join)
)
def test_any_bytes_give_one_header_with_ours_and_no_bcc(raw: bytes) -> None:
    data = composed(raw, (("X-Postroom-Ref", "r"),))
    assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")
    assert data.startswith(b"X-Postroom-Ref: r\r\n")
    fields, _ = split_raw(data)
    names = [name for name, _ in fields]
    assert b"bcc" not in names
    assert names.count(b"message-id") == names.count(b"date") == 1
    assert composed(data, (("X-Postroom-Ref", "r"),)) == data
    assert len(data) <= parts_size(content(raw)) + 30
    judged = [name.rstrip().lower() for name in email.message_from_bytes(data).keys()]  # noqa: SIM118
    assert "bcc" not in judged


def test_split_joins_to_the_same_bytes() -> None:
    data = b"A: 1\r\nB: 2\r\n 3\r\n\r\nbody\r\n\r\nmore"
    fields, body = split_raw(data)
    assert fields == [(b"a", b"A: 1\r\n"), (b"b", b"B: 2\r\n 3\r\n")]
    assert body == b"body\r\n\r\nmore"
    assert split_raw(b"A: 1") == ([(b"a", b"A: 1\r\n")], b"")


def test_what_the_peer_must_be_able_to_take() -> None:
    assert not needs_utf8(content(b"Subject: x\r\n\r\n\xff"))
    assert needs_eight_bit(content(b"Subject: x\r\n\r\n\xff"))
    assert needs_utf8(content("Subject: ż\r\n\r\nx".encode()))
    assert not needs_eight_bit(content(b"Subject: x\r\n\r\nx"))
    assert not needs_utf8(content(b"Subject: x\r\n\r\nx"))


def test_normalising_leaves_right_line_ends_alone() -> None:
    data = b"a\r\nb\r\n"
    assert normalise_line_ends(data) is data
