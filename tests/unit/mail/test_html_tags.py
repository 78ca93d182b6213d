"""Tags and attributes are found as HTML says: html5lib is the judge. R2: in linear time."""

from __future__ import annotations

import itertools
import warnings
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.mail.html_places import body_end
from postroom.mail.html_tags import attributes, tags

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import html5lib

_PIECES = [
    *(
        "<!--",
        "-->",
        "--!>",
        "<!-->",
        "<!--->",
        "<!",
        "<?x",
        "</ >",
        "</>",
        "<![CDATA[",
        "]]>",
        ">",
        "<",
        '"',
        "'",
    ),
    *("<!--[if mso]>", "<![endif]-->", "<!--[if !mso]><!-->", "<!--<![endif]-->", "<![if !mso]>"),
    *(
        "<style>",
        "</style>",
        "<STYLE x='>'>",
        "</styles>",
        "<title>",
        "</title >",
        "<textarea>",
        "</textarea/>",
    ),
    *(
        "<p title=it's>",
        "<p title='<a href=x>'>",
        '<p title="',
        "<br/>",
        "</p x='>'>",
        "<b",
        "<i/ =>",
        "text & more",
    ),
    *(
        "<a href='u{}'>",
        '<A HREF="u{}"/>',
        "<a\nhref = u{}/>",
        "<a href=u{}&amp;b>",
        "<a href='u{}&copy=1&lt;&notit;'>",
    ),
    *(
        "<a href=u{} href=second>",
        '<a title=a"b\'c href="u{}"x=y>',
        "<a href>",
        "<a href=''>",
        "<a =x href='u{}'>",
    ),
    *(
        "<a href='u{}",
        '<a href="u{}',
        "<a x=/ href=u{}>",
        "<a/href=u{}>",
        "<a href='u{}&#38;&#x26;&amp&ampx'>",
        "</a>",
    ),
]


def ours(document: str) -> set[str]:
    found = [attributes(document, tag) for tag in tags(document, ("a",)) if tag.name and not tag.closing]
    return {one["href"].value for one in found if "href" in one}


def judged(document: str) -> set[str]:
    tree = html5lib.parse(document, namespaceHTMLElements=False)
    return {href for one in tree.iter("a") if (href := one.get("href")) is not None}


@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_links_are_those_of_a_parser(pieces: list[str]) -> None:
    number = itertools.count()
    document = "".join(piece.replace("{}", str(next(number))) for piece in pieces)
    assert ours(document) == judged(document)


def test_each_piece_alone_and_before_a_link() -> None:
    for piece in _PIECES:
        for document in (
            piece.format(1),
            f"{piece.format(1)}<a href='end'>",
            f"<a href='x'>{piece.format(1)}",
        ):
            assert ours(document) == judged(document), document


def test_places_are_those_of_the_values() -> None:
    document = """<p><a class=x href = 'one' title="a>b"><a HREF=two><a href=""><a href>"""
    hrefs = [attributes(document, tag)["href"] for tag in tags(document, ("a",))]
    assert [one.written for one in hrefs] == ["one", "two", "", ""]
    assert [document[one.start : one.end] for one in hrefs] == ["one", "two", "", ""]
    assert document[hrefs[0].start - 1] == "'"


@pytest.mark.parametrize("pieces", [4_999, 5_000, 5_001, 10_000, 12_345])
def test_links_behind_many_other_tags_are_found(pieces: int) -> None:
    document = "<b>" * pieces + "<a href=x>" + "<i>" * pieces + "<a href=y><!--"
    *found, last = tags(document, ("a",))
    assert [attributes(document, tag)["href"].value for tag in found] == ["x", "y"]
    assert (last.name, last.start) == ("", len(document) - 4)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ("<body>x</body>y<p title=it's></p>", 7),
        ("<p title=it's>x</body >", 15),
        ("<title></body></title>x</body><!-- </body>", 23),
        ("x<!-- y", 1),
        ("x<style> y", 1),
        ("x<p title='y", 1),
    ],
)
def test_the_end_of_the_body_is_found_past_what_only_looks_like_it(document: str, place: int) -> None:
    assert body_end(document) == place


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "<div>",
            "<a href=x>",
            "</",
            "<",
            "<!--",
            "<!",
            "<!----",
            "<a b='x' ",
            '<a href="',
            "<style></styl",
            "&a",
        ),
        *("<a ", "= ", "<title>", "</title", "<p/", "<a =", "-->", "\"'"),
    ],
)
def test_r2_much_of_anything_is_read_in_linear_time(piece: str) -> None:
    for begin in ("", "<a ", "<a href='"):
        document = begin + piece * ((1 << 18) // len(piece))
        began = process_time()
        for tag in tags(document, ("a",)):
            assert all(one.value is not None for one in attributes(document, tag).values())
        assert process_time() - began < 2  # it takes half a second at most; quadratic would be ten
