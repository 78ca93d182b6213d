"""The pages themselves: valid, readable by everybody, in seven languages, and closed to everything else."""

from __future__ import annotations

import base64
import hashlib
import re
import string
import warnings
from collections.abc import Mapping
from xml.etree.ElementTree import Element

import pytest

from postroom.web import page as page_module
from postroom.web.languages import choose, texts
from postroom.web.page import STYLE, Button, page
from tests.web.conftest import ONE_CLICK, Site

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import html5lib

LANGUAGES = ["en", "de", "es", "fr", "ja", "ru", "pl"]


def parsed(document: str) -> Element:
    """The tree; a mistake that a validator would name is an error."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    found: Element = parser.parse(document)
    return found


async def every_page(site: Site, language: str) -> dict[str, str]:
    """Each kind of page once, by its name."""
    ann, bob, eve = await site.send("ann@example.net", "bob@example.net", "eve@example.net")
    said = {"Accept-Language": language}
    await site.do(
        "INSERT INTO suppressions (account_id, server_id, stream, address, reason, origin, created_at)"
        " VALUES (1, 1, '', 'bob@example.net', 'complaint', 'recipient', 0)"
    )
    http = site.http
    found = {
        "ask": await http.get(site.path(ann), headers=said),
        "done": await http.post(site.path(ann), headers=said, data={"action": "unsubscribe"}),
        "back": await http.post(site.path(ann), headers=said, data={"action": "resubscribe"}),
        "one click": await http.post(site.path(eve), headers=said, data=ONE_CLICK),
        "blocked": await http.get(site.path(bob), headers=said),
        "missing": await http.get("/u/nothing", headers=said),
        "bad": await http.post(site.path(ann), headers=said, content=b"x"),
    }
    await site.do("UPDATE servers SET deleted_at = 1")
    found["gone"] = await http.get(site.path(ann), headers=said)
    for name, answered in found.items():
        assert answered.headers["content-language"] == language, name
    return {name: answered.text for name, answered in found.items()}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_page_is_valid_and_says_what_assistive_programs_need(site: Site, language: str) -> None:
    pages = await every_page(site, language)
    titles = set()
    for name, document in pages.items():
        assert document.startswith("<!DOCTYPE html>\n"), name
        tree = parsed(document)
        assert tree.get("lang") == language
        (title,) = tree.iter("title")
        (heading,) = tree.iter("h1")
        assert title.text == heading.text
        titles.add(title.text)
        assert len(list(tree.iter("main"))) == 1
        for button in tree.iter("button"):
            assert (button.get("type"), (button.text or "").strip() != "") == ("submit", True)
        for form in tree.iter("form"):
            assert form.get("method") == "post"
            assert form.get("action") is None  # the page's own address, whatever a proxy calls it
        (viewport,) = (one for one in tree.iter("meta") if one.get("name") == "viewport")
        assert "user-scalable" not in (viewport.get("content") or "")
        assert {one.get("charset") for one in tree.iter("meta")} >= {"utf-8"}
        for forbidden in ("script", "img", "iframe", "link", "a", "object", "input"):
            assert not list(tree.iter(forbidden)), (name, forbidden)
        assert not re.search(r"\son\w+=|url\(|@import|javascript:", document), name
        assert "{" not in "".join(tree.find("body").itertext())  # type: ignore[union-attr]  # html5lib makes one
    # ask, done and one click, back, blocked, missing, bad, gone
    assert len(titles) == 7


async def test_what_a_sender_called_himself_is_only_text(site: Site) -> None:
    await site.do("UPDATE servers SET name = '<script>alert(1)</script>\" onload=\"x'")
    await site.do("UPDATE streams SET name = '{address} %s <b>'")
    (ann,) = await site.send("ann@example.net")
    document = (await site.http.get(site.path(ann))).text
    tree = parsed(document)
    assert not list(tree.iter("script"))
    assert '<script>alert(1)</script>" onload="x · {address} %s <b>' in [one.text for one in tree.iter("dd")]


async def test_nothing_may_be_loaded_framed_stored_found_or_told(site: Site) -> None:
    (ann,) = await site.send("ann@example.net")
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    for answered in (
        await site.http.get(site.path(ann)),
        await site.http.get("/u/nothing"),
        await site.http.post(site.path(ann), data=ONE_CLICK),
    ):
        told = answered.headers
        policy = dict(part.strip().split(" ", 1) for part in told["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'",
            "style-src": f"'sha256-{digest}'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert f"<style>{STYLE}</style>" in answered.text  # else the hash is of something else
        assert told["cache-control"] == "no-store"
        assert told["referrer-policy"] == "no-referrer"
        assert told["x-robots-tag"] == "noindex, nofollow"
        assert told["x-frame-options"] == "DENY"
        assert told["x-content-type-options"] == "nosniff"
        assert told["content-type"] == "text/html; charset=utf-8"
        assert "accept-language" in told["vary"].lower()
        assert "set-cookie" not in told
        assert not answered.is_redirect


# --- contrast, by WCAG 2.2's own formula ---


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def palettes() -> list[Mapping[str, str]]:
    """The light colours, and the dark ones."""
    found: list[Mapping[str, str]] = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", part)) for part in STYLE.split("@media", 1)
    ]
    assert all(set(one) == {"text", "paper", "soft", "line", "button", "on-button"} for one in found)
    return found


@pytest.mark.parametrize("colours", palettes())
def test_text_stands_out_at_seven_to_one_and_edges_at_three(colours: Mapping[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for ink, ground in (("text", "paper"), ("soft", "paper"), ("on-button", "button")):
        assert contrast(colours[ink], colours[ground]) >= 7, (ink, ground)
    for edge in ("line", "button"):
        assert contrast(colours[edge], colours["paper"]) >= 3, edge


# --- languages ---


def test_every_language_says_everything_with_the_same_holes() -> None:
    assert list(texts()) == LANGUAGES
    english = texts()["en"]
    for language, words in texts().items():
        assert set(words) == set(english), language
        for name, text in words.items():
            assert text.strip() == text
            assert text
            holes = {hole for _, hole, _, _ in string.Formatter().parse(text) if hole}
            assert holes == {hole for _, hole, _, _ in string.Formatter().parse(english[name]) if hole}, name
            if language != "en" and name != "list":
                assert text != english[name], (language, name)


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fi,sv;q=0.9,fr;q=0.3", "fr"),
        ("en;q=0.5,pl;q=0.7", "pl"),
        ("pl;q=0.7,ru;q=0.7", "pl"),
        ("JA-jp", "ja"),
        ("de;q=0", "en"),
        ("de;q=0,fr", "fr"),
        ("*", "en"),
        ("de;q=2,fr;q=0.1", "fr"),
        ("de;q=x", "en"),
        ("<script>", "en"),
        (",,,;;;", "en"),
        ("xx," * 400 + "de", "en"),  # only so much of it is read
        ("de;" + " " * 900, "en"),
    ],
)
def test_the_reader_chooses(said: str, chosen: str) -> None:
    assert choose(said) == chosen


def test_a_page_escapes_all_it_is_given() -> None:
    nasty = "<&>\"'"
    document = page("en", nasty, [nasty], facts=[(nasty, nasty)], button=Button(nasty, nasty, nasty)).decode()
    tree = parsed(document)
    (button,) = tree.iter("button")
    assert (button.text, button.get("value")) == (nasty, nasty)
    assert [one.text for one in tree.iter("dd")] == [nasty]
    assert page_module.headers("en")
