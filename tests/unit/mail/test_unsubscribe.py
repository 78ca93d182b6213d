"""How a message offers to unsubscribe: what goes into its header and its parts, and what stays as it was."""

from __future__ import annotations

import re
import warnings
from email import message_from_bytes, policy
from email.message import EmailMessage
from xml.etree.ElementTree import Element, tostring

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.mail.compose import compose
from postroom.mail.content import Content, Mailbox
from postroom.mail.html_places import body_end, language
from postroom.mail.unsubscribe import Offer, custom_link_fault, offer_for, offering

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import html5lib

URL = "https://post.example/u/abc"
PLAIN = Content(Mailbox("shop@example.com"), (Mailbox("a@example.net"),), subject="x")
HTML = msgspec.structs.replace(PLAIN, html="<html><body><p>Hello</p></body></html>", text="Hello")
ONE_CLICK = ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")


def tree(document: str) -> Element:
    """As a browser understands it."""
    found: Element = html5lib.parse(document, namespaceHTMLElements=False)
    return found


def texts(content: Content) -> tuple[str, str]:
    assert content.html is not None
    assert content.text is not None
    return content.html, content.text


def test_both_parts_and_both_headers() -> None:
    made = offering(HTML, URL, Offer())
    document, text = texts(made)
    assert made.headers == (("List-Unsubscribe", f"<{URL}>"), ONE_CLICK)
    links = tree(document).findall("./body/p/a")
    assert [(link.get("href"), link.text) for link in links] == [(URL, "Unsubscribe from these emails")]
    assert text == f"Hello\n\nUnsubscribe from these emails: {URL}\n"


def test_neither_when_the_connection_wants_neither() -> None:
    assert offering(HTML, URL, Offer(header=False, footer=False)) == HTML


def test_mail_with_means_of_its_own_gets_nothing_but_the_link_where_its_author_wants_it() -> None:
    own = msgspec.structs.replace(HTML, own_unsubscribing=True)
    assert offer_for(own, Offer(), bulk=True) is None
    asked = msgspec.structs.replace(own, unsubscribe_link=True, text="Out: {{ unsubscribe_link }}")
    offer = offer_for(asked, Offer(), bulk=True)
    assert offer == Offer(header=False, footer=False)
    made = offering(asked, URL, offer)
    assert (made.headers, made.html, made.text) == ((), HTML.html, f"Out: {URL}")


def test_without_https_there_is_no_one_click() -> None:
    made = offering(HTML, "http://127.0.0.1:8080/u/abc", Offer())
    assert made.headers == (("List-Unsubscribe", "<http://127.0.0.1:8080/u/abc>"),)


@pytest.mark.parametrize("name", ["List-Unsubscribe", "list-unsubscribe"])
def test_a_header_of_the_messages_own_stays(name: str) -> None:
    own = ((name, "<mailto:off@example.com>"),)
    made = offering(msgspec.structs.replace(HTML, headers=own), URL, Offer())
    assert made.headers == own
    assert URL in texts(made)[0]


@pytest.mark.parametrize(
    ("custom", "header", "in_html", "line"),
    [
        (
            "https://shop.example/off?a=1&b=2",
            [("List-Unsubscribe", "<https://shop.example/off?a=1&b=2>")],
            'href="https://shop.example/off?a=1&amp;b=2"',
            "Unsubscribe from these emails: https://shop.example/off?a=1&b=2",
        ),
        (
            "mailto:off@shop.example?subject=off",
            [("List-Unsubscribe", "<mailto:off@shop.example?subject=off>")],
            'href="mailto:off@shop.example?subject=off"',
            "Unsubscribe from these emails: mailto:off@shop.example?subject=off",
        ),
        (
            "https://shop.example/off/{{id}}",
            [("List-Unsubscribe", f"<{URL}>"), ONE_CLICK],
            'href="https://shop.example/off/{{id}}"',
            "Unsubscribe from these emails: https://shop.example/off/{{id}}",
        ),
        ("[unsubscribe]", [("List-Unsubscribe", f"<{URL}>"), ONE_CLICK], "[unsubscribe]", "[unsubscribe]"),
        (
            "<%asm_group_unsubscribe_raw_url%>",
            [("List-Unsubscribe", f"<{URL}>"), ONE_CLICK],
            "<%asm_group_unsubscribe_raw_url%>",
            "<%asm_group_unsubscribe_raw_url%>",
        ),
        (
            '<b>Enough?</b> <a href="{{{ pm:unsubscribe }}}">Unsubscribe</a>!',
            [("List-Unsubscribe", f"<{URL}>"), ONE_CLICK],
            '<b>Enough?</b> <a href="{{{ pm:unsubscribe }}}">Unsubscribe</a>!',
            "Enough? Unsubscribe: {{{ pm:unsubscribe }}} !",
        ),
    ],
)
def test_custom_links(custom: str, header: list[tuple[str, str]], in_html: str, line: str) -> None:
    made = offering(HTML, URL, Offer(custom=custom))
    document, text = texts(made)
    assert list(made.headers) == header
    assert in_html in document
    assert URL not in document + text
    assert text == f"Hello\n\n{line}\n"


@pytest.mark.parametrize(
    "custom",
    [
        "https://a.example/\r\nBcc: x@example.com",
        "https://a.example/x>y",
        "https://a.example/a b",
        'https://a.example/"onclick',
        "HTTPS://a.example/<b>",
        "mailto:a b@example.com",
        "https://a.example/" + "x" * 2000,
    ],
)
def test_u5_what_begins_like_a_link_and_is_none(custom: str) -> None:
    assert custom_link_fault(custom)


@given(st.text(max_size=300))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_u5_whatever_passes_can_be_written(text: str) -> None:
    for custom in (text, f"https://{text}", f"mailto:{text}"):
        if not custom_link_fault(custom) and not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", custom):
            made = offering(HTML, URL, Offer(custom=custom))
            value = dict(made.headers)["List-Unsubscribe"]
            assert re.fullmatch(r"<[!-;=?-~]+>", value), value
            compose(made, message_id="<m@example.com>", date_us=0)


def test_an_author_puts_the_link_where_he_wants_it() -> None:
    own = msgspec.structs.replace(
        HTML, html='<p><a href="{{ unsubscribe_link }}">Off</a></p>', text="Off: {{unsubscribe_link}}"
    )
    assert texts(offering(own, URL, Offer())) == (f'<p><a href="{URL}">Off</a></p>', f"Off: {URL}")
    custom = "https://shop.example/?a=1&b=2"
    assert texts(offering(own, URL, Offer(custom=custom))) == (
        '<p><a href="https://shop.example/?a=1&amp;b=2">Off</a></p>',
        f"Off: {custom}",
    )
    # HTML inside an attribute would break the document
    assert (
        texts(offering(own, URL, Offer(custom="<a href='x'>x</a>")))[0] == f'<p><a href="{URL}">Off</a></p>'
    )
    assert texts(offering(own, URL, Offer(custom="[unsubscribe]")))[1] == "Off: [unsubscribe]"


def test_other_placeholders_stay() -> None:
    own = msgspec.structs.replace(HTML, text="{{unsubscribe_url}} {{ name }} [unsubscribe] {{{unsubscribe}}}")
    assert texts(offering(own, URL, Offer(footer=False)))[1] == own.text


@pytest.mark.parametrize(
    ("bulk", "asked", "expected"),
    [
        (True, None, Offer()),
        (True, True, Offer()),
        (True, False, Offer(footer=False)),
        (False, None, None),
        (False, False, None),
        (False, True, Offer()),
    ],
)
def test_who_gets_it(bulk: bool, asked: bool | None, expected: Offer | None) -> None:
    content = msgspec.structs.replace(HTML, unsubscribe_link=asked)
    assert offer_for(content, Offer(), bulk=bulk) == expected


def test_a_message_its_client_composed_stays_as_it_is() -> None:
    raw = Content(Mailbox("a@example.com"), raw=b"Subject: x\r\n\r\nx\r\n")
    assert offer_for(raw, Offer(), bulk=True) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Offer()),
        ({"include_unsubscribe_header": False}, Offer(header=False)),
        ({"include_unsubscribe_link": False}, Offer(footer=False)),
        ({"custom_unsubscribe_link": "x", "use_custom_unsubscribe_link": False}, Offer()),
        ({"custom_unsubscribe_link": "x", "use_custom_unsubscribe_link": True}, Offer(custom="x")),
        ({"custom_unsubscribe_link": None, "use_custom_unsubscribe_link": True}, Offer()),
    ],
)
def test_an_offer_by_a_connections_options(options: dict[str, object], expected: Offer) -> None:
    assert Offer.of(options) == expected


@pytest.mark.parametrize(
    ("spoken", "word", "marked"),
    [
        ('<html lang="de">', "Diese E-Mails abbestellen", None),
        ("<html lang=pl-PL>", "Zrezygnuj z tych wiadomości", None),
        ("<!doctype html><HTML dir='ltr' LANG='ja'>", "このメールの配信を停止する", None),
        ('<html lang="fi">', "Unsubscribe from these emails", "en"),
        ("<html>", "Unsubscribe from these emails", None),
        ("", "Unsubscribe from these emails", None),
    ],
)
def test_the_line_speaks_the_documents_language(spoken: str, word: str, marked: str | None) -> None:
    own = msgspec.structs.replace(HTML, html=f"{spoken}<body><p>x</p></body></html>")
    (paragraph,) = (
        one for one in tree(texts(offering(own, URL, Offer()))[0]).iter("p") if one.find("a") is not None
    )
    assert [link.text for link in paragraph.iter("a")] == [word]
    assert paragraph.get("lang") == marked


HOSTILE = [
    "<html><body><p>x</p></body></html>",
    "<p>x",
    "",
    "<html><body><p>x</p><!-- </body> --></html>",
    "<!--[if mso]><body></body><![endif]--><body><p>x</p></body>",
    "<body><p>x</p></body><!-- never closed </body>",
    "<body><p>x</p><!-- never closed",
    "<body><script>var x = '</body>'</script><p>x</p></body></html>",
    "<body><style>a::after { content: '</body>' }</style><p>x</p>",
    "<body><p>x</p><style>never closed </body></html>",
    "<body><textarea></body></textarea><p>x</p></BODY ></HTML>",
    '<body><p title="</body>">x</p></body>',
    '<body><p>x</p><a href="never closed </body></html>',
    "<p>one</p></body></html><html><body><p>two</p></body></html>",
    "<table><tr><td>x</td></tr></table></body>",
    "<p>x</p></html>",
    "<title>x</title><p>x</p>",
    "<p>x</p><plaintext>all the rest </body>",
    "<body><p>x</p></body>" + "<!-- x -->" * 5,
    "</body>" * 50,
    "<p>İ</p></body></html>",
    "<body><p>x</p><a href='<b> </body></html>'>y</a>",
    "<body><p>x</p><style>a</style></body></html>  \n",
]


@pytest.mark.parametrize("document", HOSTILE)
def test_the_line_is_seen_and_nothing_else_moves(document: str) -> None:
    """Parsed as a browser does: the same document, and one more paragraph with a link."""
    made = offering(msgspec.structs.replace(PLAIN, html=document), URL, Offer())
    assert made.html is not None
    place = body_end(document)
    assert made.html.startswith(document[:place])
    assert made.html.endswith(document[place:])
    found = tree(made.html)
    owners = [
        one for one in found.iter() for child in one if child.tag == "p" and child.find("a") is not None
    ]
    (owner,) = owners
    assert owner.tag == "body"
    for child in list(owner):
        if child.tag == "p" and child.find("a") is not None:
            owner.remove(child)
    visible = "".join("".join(tree(document).find("body").itertext()).split())  # type: ignore[union-attr]  # html5lib makes one
    assert "".join("".join(owner.itertext()).split()) == visible, tostring(found)


@given(st.text(st.sampled_from(list("<>/!-\"' bodyhtmlstyle=\n")), max_size=80))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_any_text_has_a_place(document: str) -> None:
    assert 0 <= body_end(document) <= len(document)
    language(document)


@pytest.mark.parametrize(
    "piece",
    ["<!--", "<style>", "</body", "<body '", "<html lang=", '<body "', "</body>", "<", "<title></title>"],
)
def test_r2_hostile_documents_take_linear_time(piece: str) -> None:
    """Half a megabyte is through in a moment; what is quadratic would keep the suite for minutes."""
    document = piece * (500_000 // len(piece))
    assert 0 <= body_end(document) <= len(document)
    language(document)


def test_the_composed_message_reads_as_written() -> None:
    made = offering(msgspec.structs.replace(HTML, html="<p>żółć " + "日本" * 300 + "</p>"), URL, Offer())
    data = compose(made, message_id="<m@example.com>", date_us=0)
    read = message_from_bytes(data, policy=policy.SMTP)
    assert isinstance(read, EmailMessage)
    assert read["List-Unsubscribe"] == f"<{URL}>"
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    for kind in ("html", "plain"):
        part = read.get_body((kind,))
        assert part is not None
        assert URL in part.get_content()
