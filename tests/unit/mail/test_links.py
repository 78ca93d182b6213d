"""Which links of a message are tracked, what becomes of the rest (nothing), and what a target may be."""

from __future__ import annotations

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.mail import link_target
from postroom.mail.content import Content, Mailbox, TrackLinks
from postroom.mail.link_target import MOST_CHARACTERS, location_of, target_of
from postroom.mail.links import MOST_TARGETS, find_links, tracks_opens, with_links, with_pixel

BOTH = TrackLinks.HTML_AND_TEXT


def content(html: str | None, text: str | None = None, wanted: TrackLinks = BOTH) -> Content:
    found = find_links(html, text, wanted)
    return Content(
        Mailbox("a@example.com"), html=html, text=text, html_links=found.html, text_links=found.text
    )


def rewritten(html: str | None, text: str | None = None, wanted: TrackLinks = BOTH) -> Content:
    return with_links(content(html, text, wanted), lambda number: f"H{number}&", lambda number: f"T{number}&")


PAGE = """<!DOCTYPE html><HTML><body bgcolor=red class='x'>
<a class=b href="https://shop.example/a?x=1&amp;copy=2" >one</a> <A HREF='http://shop.example/b'/>two</A>
<map><area href=https://shop.example/c></map><a  href = "https://shop.example/a?x=1&copy=2">one again</a>
<p>https://shop.example/shown <img src="https://shop.example/i.png"></p>
</body></HTML>"""


def test_only_values_of_href_change() -> None:
    assert rewritten(PAGE).html == (
        PAGE.replace("https://shop.example/a?x=1&amp;copy=2", "H0&amp;")
        .replace("http://shop.example/b", "H1&amp;")
        .replace("https://shop.example/c", "H2&amp;")
        .replace("https://shop.example/a?x=1&copy=2", "H0&amp;")
    )
    assert find_links(PAGE, None, BOTH).targets == (
        "https://shop.example/a?x=1&copy=2",
        "http://shop.example/b",
        "https://shop.example/c",
    )


@pytest.mark.parametrize(
    "untouched",
    [
        "<a href='mailto:a@b.example'>",
        "<a href='tel:+123'>",
        "<a href='#top'>",
        "<a href='/relative'>",
        "<a href='{{ unsubscribe_link }}'>",
        "<a href='{{{ pm:unsubscribe }}}'>",
        "<a href='https://x.example/?u={{token}}'>",
        "<a href='[unsubscribe]'>",
        "<a href='<%asm_group_unsubscribe_raw_url%>'>",
        "<a href='https://x.example/*|UNSUB|*'>",
        "<a href='https://x.example/%recipient%'>",
        "<a href='https://post.example/u/aeaqaaaaaaaaaaaaamaaabv4qxh7mzqsxnzjhbo'>",
        "<a href='https://post.example/under/c/aiaqaaaaaaaaaaacaaasob2gbodleo4w63vxalyaiaqaaaaaaaa3'>",
        "<a data-pm-no-track href='https://x.example/'>",
        "<a href='https://x.example/' DATA-PM-NO-TRACK='false'>",
        "<a href='https://x.example/' data-track=' False '>",
        "<!--[if mso]><a href='https://x.example/'><v:rect href='https://x.example/'><![endif]-->",
        "<style><a href='https://x.example/'></style>",
        "<p title=\"<a href='https://x.example/'>\">",
        "<link href='https://x.example/'><base href='https://x.example/'>",
        "</a href='https://x.example/'>",
        "<a href='https://x.example/",
        "<a href>",
        "<a href=''>",
        f"<a href='https://x.example/{'x' * MOST_CHARACTERS}'>",
        "<a href='https://x.example/'>-----BEGIN PGP SIGNATURE-----",
    ],
)
def test_k6_what_is_no_link_of_the_sender_stays(untouched: str) -> None:
    assert rewritten(untouched).html == untouched
    assert find_links(untouched, None, BOTH).targets == ()


def test_k6_rewriting_twice_is_rewriting_once() -> None:
    token = "aiaqaaaaaaaaaaacaaasob2gbodleo4w63vxalyaiaqaaaaaaaa3"

    def url(number: int) -> str:
        return f"https://post.example/c/{token}"

    once = with_links(content(PAGE, "See https://shop.example/a."), url, url)
    assert token in (once.html or "")
    assert token in (once.text or "")
    again = content(once.html, once.text)
    assert (again.html_links, again.text_links) == ((), ())


@pytest.mark.parametrize(
    "written",
    [
        *(
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
        ),
        *(
            "//evil.example",
            "https:evil.example",
            "https:/evil.example",
            "http:///evil.example",
            "http://",
            "http://#",
        ),
        *("http://good@evil.example", "http://a:b@evil.example", "http://@evil.example", "http://a%40b/"),
        *(
            "\\\\evil.example",
            "http:\\\\evil.example",
            "https://good.example\\@evil.example",
            "https://\\evil.example",
        ),
        *(
            "http://x.example/\r\nSet-Cookie: a=b",
            "http://x.example/a\nb",
            "http://x.example/\0b",
            "http://x .example/",
        ),
        *(
            "http://[::1",
            "http://[::1]evil.example/",
            "http://[v1.x]/",
            "http://x.example:99999/",
            "http://x:y/",
        ),
        *(
            "http://.example/",
            "http://x..éxample/",
            "http://-/",
            "http://\ud800.example/",
            "http://x.example/\ud800",
        ),
        *("http://x.example/%", "http://x.example/%zz", "http://x.example/\u2028", "http://x.example/<b>"),
        *("", " ", "https://", "x", "ftp://x.example/", "ws://x.example/"),
    ],
)
def test_k2_what_no_link_may_lead_to(written: str) -> None:
    assert target_of(written) is None


@pytest.mark.parametrize(
    ("written", "location"),
    [
        ("https://shop.example", "https://shop.example"),
        (" \n https://shop.example/ \t", "https://shop.example/"),
        ("HTTPS://Shop.Example/Path?Q=1#F", "https://shop.example/Path?Q=1#F"),
        ("http://shop.example:8080/a[]=1|2;~'()", "http://shop.example:8080/a[]=1|2;~'()"),
        (
            "https://bücher.example/straße?ü=ü#ü",
            "https://xn--bcher-kva.example/stra%C3%9Fe?%C3%BC=%C3%BC#%C3%BC",
        ),
        ("http://evil。example/a", "http://evil.example/a"),
        ("http://[2001:db8::1]:80/", "http://[2001:db8::1]:80/"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://under_score.example/%2F%c3", "http://under_score.example/%2F%c3"),
        ("https://x.example/?next=https://y.example/@z", "https://x.example/?next=https://y.example/@z"),
        ("https://x.example/👍", "https://x.example/%F0%9F%91%8D"),
    ],
)
def test_k2_what_a_link_may_lead_to_and_how_it_goes_into_a_header(written: str, location: str) -> None:
    target = target_of(written)
    assert target == written.strip()
    assert location_of(target) == location


@given(st.text('abz09/?#&=%2F@:.-_[](){}|*\\"<> \n', max_size=30))
def test_k2_what_is_plain_is_found_so_by_the_closer_look_too(
    text: str,
) -> None:
    target = target_of(f"https://x{text}")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(link_target, "_PLAIN", re.compile("(?!)"))
        assert target_of(f"https://x{text}") == target


@given(st.text(max_size=40), st.sampled_from(["http://x.example", "https://", "http://x.example/", ""]))
def test_k2_a_location_is_always_safe_in_a_header(text: str, begin: str) -> None:
    target = target_of(begin + text)
    if target is not None:
        location = location_of(target)
        assert location is not None
        assert re.fullmatch(r"https?://[!-~]+", location)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See https://x.example/a.", "See T0&."),
        ("(https://x.example/a)", "(T0&)"),
        ("https://en.example/wiki/A_(b), ok", "T0&, ok"),
        ("<https://x.example/a>", "<T0&>"),
        ('"https://x.example/a"', '"T0&"'),
        ("[text](https://x.example/a)", "[text](T0&)"),
        ("*https://x.example/a*", "*T0&*"),
        ("HTTP://x.example/a\r\nhttps://x.example/a", "T0&\r\nT1&"),
        ("詳しくはhttps://x.example/a。", "詳しくはT0&。"),
        ("https://x.example/aをご覧", "https://x.example/aをご覧"),
        ("https://x.example/Köln", "https://x.example/Köln"),
        ("xhttps://x.example/a", "xhttps://x.example/a"),
        ("https://u@x.example/a https://x.example/{{b}}", "https://u@x.example/a https://x.example/{{b}}"),
        ("www.x.example mailto:a@x.example", "www.x.example mailto:a@x.example"),
        ("-----BEGIN PGP SIGNED MESSAGE-----\nhttps://x.example/", None),
        ("http://...", "http://..."),
    ],
)
def test_urls_in_plain_text(text: str, expected: str | None) -> None:
    assert rewritten(None, text).text == (text if expected is None else expected)


def test_the_same_url_in_both_parts_is_one_target() -> None:
    made = rewritten(
        '<a href="https://x.example/?a=1&amp;b=2">x</a>', "https://x.example/?a=1&b=2 https://y.example/"
    )
    assert (made.html, made.text) == ('<a href="H0&amp;">x</a>', "T0& T1&")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (TrackLinks.NONE, ("<a href=https://x.example/>", "https://y.example/")),
        (TrackLinks.HTML, ("<a href=H0&amp;>", "https://y.example/")),
        (TrackLinks.TEXT, ("<a href=https://x.example/>", "T0&")),
        (TrackLinks.HTML_AND_TEXT, ("<a href=H0&amp;>", "T1&")),
    ],
)
def test_only_the_wanted_parts(wanted: TrackLinks, expected: tuple[str, str]) -> None:
    made = rewritten("<a href=https://x.example/>", "https://y.example/", wanted)
    assert (made.html, made.text) == expected


@pytest.mark.parametrize("wanted", [TrackLinks.TEXT, TrackLinks.HTML_AND_TEXT])
def test_what_is_not_tracked_in_the_html_is_not_tracked_in_the_text(wanted: TrackLinks) -> None:
    made = rewritten("<a href='https://x.example/' data-pm-no-track>", "https://x.example/", wanted)
    assert made.text == "https://x.example/"


def test_only_so_many_targets_are_tracked_and_their_repetitions() -> None:
    html = "".join(f"<a href='https://x.example/{number}'>" for number in [*range(MOST_TARGETS + 5), 0])
    found = find_links(html, None, BOTH)
    assert len(found.targets) == MOST_TARGETS
    assert len(found.html) == MOST_TARGETS + 1
    assert found.html[-1].number == 0


@pytest.mark.parametrize(
    "text",
    [
        "https://x.example/" + ")" * (1 << 18),
        ("https://x.example/" + ")" * 2000 + " ") * 100,
        "https://x.example/" * 15_000,
        "http://" * 40_000,
        "https://x.example/?" + "(" * (1 << 18),
    ],
)
def test_r2_plain_text_takes_linear_time(text: str) -> None:
    began = process_time()
    find_links(None, text, TrackLinks.TEXT)
    assert process_time() - began < 2  # it takes a fifth at most; quadratic would be a minute


def test_the_pixel_stands_before_the_end_of_the_body() -> None:
    made = with_pixel("<html><body><p>x</p></BODY></html>", "https://p.example/?a&b")
    assert re.fullmatch(
        r'<html><body><p>x</p><img src="https://p.example/\?a&amp;b" [^>]*alt=""[^>]*></BODY></html>',
        made,
    )
    assert with_pixel("x", "p").startswith("x<img")


def test_opens_are_tracked_in_html_that_nobody_signed() -> None:
    def tracked(**fields: object) -> bool:
        return tracks_opens(Content(Mailbox("a@example.com"), track_opens=True, **fields))  # type: ignore[arg-type]  # its fields

    assert tracked(html="x")
    assert not tracked(text="x")
    assert not tracked(html="-----BEGIN PGP SIGNED MESSAGE-----")
    assert not tracks_opens(Content(Mailbox("a@example.com"), html="x"))
