"""Attachment names, types and content ids."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.mail.attachments import check_attachment, clean_file_name, mime_type


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("report.pdf", "report.pdf"),
        ("żółć – raport.pdf", "żółć – raport.pdf"),
        (".profile", "profile"),
        ("a/", "a"),
        ('what? "now"<1>.txt', "what_ _now__1_.txt"),
        ("", "attachment"),
        ("..", "attachment"),
        ("\u00a0", "attachment"),
        ("a\u00a0\u3000b.pdf", "a  b.pdf"),
        ("con.txt", "_con.txt"),
        ("LPT1", "_LPT1"),
        ("console.txt", "console.txt"),
    ],
)
def test_clean_file_name(name: str, cleaned: str) -> None:
    assert clean_file_name(name) == cleaned


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(max_size=400) | st.text("./\\: ~CONUL\u202e\0", max_size=30))
def test_a_cleaned_name_is_never_a_path_and_stays(name: str) -> None:
    cleaned = clean_file_name(name)
    assert 1 <= len(cleaned) <= 200
    assert not set(cleaned) & set("/\\:\0\r\n\u202e")
    assert cleaned.strip(". ") not in ("", "CON", "NUL")
    assert clean_file_name(cleaned) == cleaned


def test_a_long_name_keeps_its_extension() -> None:
    assert clean_file_name("x" * 10_000 + ".pdf") == "x" * 196 + ".pdf"


@pytest.mark.parametrize(
    ("given_type", "kind", "parameters"),
    [
        ("Application/PDF", "application/pdf", ""),
        (
            'text/calendar; method=REQUEST; charset="utf-8"',
            "text/calendar",
            '; method=REQUEST; charset="utf-8"',
        ),
        ("image/png; name=evil.exe", "image/png", ""),
        ("text/plain;", "text/plain", ""),
        ("message/rfc822", "application/octet-stream", ""),
        ("multipart/mixed; boundary=x", "application/octet-stream", ""),
        ("pdf", "application/octet-stream", ""),
        ("", "application/octet-stream", ""),
        ("text/plain\r\nX: y", "application/octet-stream", ""),
        ("text/plain; a=\r\nX: y", "application/octet-stream", ""),
        ("text/żółć", "application/octet-stream", ""),
    ],
)
def test_mime_type(given_type: str, kind: str, parameters: str) -> None:
    assert mime_type(given_type) == (kind, parameters)


def test_checks() -> None:
    check_attachment("żółć.pdf", "application/pdf", "", "attachments[0]")
    check_attachment("a.png", "image/png", "logo@x", "attachments[0]")
    for name, kind, content_id in (
        ("", "a/b", ""),
        ("a\r\nb", "a/b", ""),
        ("a", "ab", ""),
        ("a", "a/b", "<x>"),
        ("a", "a/b", "x y"),
        ("a", "a/b", "x\r\n"),
    ):
        with pytest.raises(Invalid) as refused:
            check_attachment(name, kind, content_id, "attachments[0]")
        assert refused.value.errors[0].field == "attachments[0]"
