"""Addresses: what is accepted, what is refused and in which words, and what counts as the same."""

from __future__ import annotations

import time
from email.headerregistry import Address as StdlibAddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.mail.address import (
    Address,
    address_key,
    is_mixed_script,
    parse_address,
    parse_domain,
    parse_mailbox,
    parse_mailbox_list,
    wire_address,
)
from postroom.mail.content import Mailbox


@pytest.mark.parametrize(
    ("text", "local", "ascii_domain", "key"),
    [
        ("ann@example.com", "ann", "example.com", "ann@example.com"),
        ("  Ann.Lee@Example.COM\t", "Ann.Lee", "example.com", "ann.lee@example.com"),
        ("ann+tag@example.com", "ann+tag", "example.com", "ann+tag@example.com"),
        ("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~", "example.com", None),
        ("root@localhost", "root", "localhost", "root@localhost"),
        ('"ann lee"@example.com', '"ann lee"', "example.com", '"ann lee"@example.com'),
        ('"Ann"@example.com', '"Ann"', "example.com", "ann@example.com"),
        (r'"a\nn"@example.com', r'"a\nn"', "example.com", "ann@example.com"),
        (r'"a \" b"@example.com', r'"a \" b"', "example.com", r'"a \" b"@example.com'),
        ("ann@bücher.example", "ann", "xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("ann@BÜCHER.example", "ann", "xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--bcher-kva.bücher.example", "ann", "xn--bcher-kva.xn--bcher-kva.example", None),
        ("ann@ｅｘａｍｐｌｅ。com", "ann", "example.com", "ann@example.com"),
        ("ann@exam\u00adple.com", "ann", "example.com", "ann@example.com"),
        ("ann@faß.example", "ann", "xn--fa-hia.example", None),
        ("ann@r3---sn-x.example", "ann", "r3---sn-x.example", None),
        ("Żółć@example.com", "Żółć", "example.com", "żółć@example.com"),
        ("z\u0307@example.com", "z\u0307", "example.com", "ż@example.com"),
    ],
)
def test_accepted(text: str, local: str, ascii_domain: str, key: str | None) -> None:
    address = parse_address(text, "to")
    assert (address.local, address.ascii_domain) == (local, ascii_domain)
    assert address.key == (key or f"{local}@{ascii_domain}".lower())
    assert address.needs_smtputf8 == (not local.isascii())
    assert parse_address(address.text, "to").key == address.key
    assert wire_address(address.text) == address.wire == f"{local}@{ascii_domain}"
    assert address_key(text) == address.key


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "can't be blank"),
        (" \t", "can't be blank"),
        ("ann", "no @"),
        ("@example.com", "before the @ is missing"),
        ("ann@", "domain is missing"),
        ("a@b@c", "more than one @"),
        ("a@@b", "more than one @"),
        (".a@b", "dot"),
        ("a.@b", "dot"),
        ("a..b@c", "dot"),
        ("a b@c.de", "blank"),
        ("a@b c", "after the address"),
        ("a@b..c", "dot in the domain"),
        ("a@.b", "dot in the domain"),
        ("a@b.", "dot in the domain"),
        ("a@-b.de", "character that domain names cannot have"),
        ("a@b-.de", "character that domain names cannot have"),
        ("a@b_c.de", "character that domain names cannot have"),
        ("a@b!c.de", "character that domain names cannot have"),
        ("a@☃.net", "character that domain names cannot have"),
        ("a@a\u2100b.com", "character that domain names cannot have"),
        ("a@\u202egpj.com", "character that domain names cannot have"),
        ("a@\u00ad", "dot in the domain"),
        ("a@127.0.0.1", "ends in a number"),
        ("a@127。0。0。1", "ends in a number"),
        ("a@[127.0.0.1]", "IP address"),
        ("a@[IPv6:::1]", "IP address"),
        ("Ann <a@b.de>", "blank"),
        ("<a@b.de>", "unexpected <"),
        ("a@b.de>", "unexpected >"),
        ("<@relay:user@x>", "unexpected <"),
        ("@relay:user@x", "before the @ is missing"),
        ("a@b.de, c@d.de", "only one address"),
        ("a@b.de;", "unexpected ;"),
        ("(x)a@b.de", "comments"),
        ("a@b.de(x)", "comments"),
        ('"a@b.de', "closing quotation mark"),
        ('"a"b@c.de', "unexpected"),
        ('"a@b"@c.de', "quoted @"),
        ("a\\b@c.de", "backslash"),
        ("a\r@b.de", "line break"),
        ("a\n@b.de", "line break"),
        ("a\x00@b.de", "control character"),
        ("a@b.de\u2028", "line break"),
        ("a\u200b@b.de", "invisible"),
        ("a\u202e@b.de", "invisible"),
        ("a\u00a0b@c.de", "invisible"),
        ('"a\u202eb"@c.de', "invisible"),
        ("\ud800@b.de", "control character"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_address(text, "reply_to")
    assert refused.value.errors[0].field == "reply_to"
    assert words in refused.value.errors[0].reason


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("ann@b.de", "ann@b.de", ""),
        ("<ann@b.de>", "ann@b.de", ""),
        ("Ann <ann@b.de>", "ann@b.de", "Ann"),
        ("Ann<ann@b.de>", "ann@b.de", "Ann"),
        ("  Ann  Lee <ann@b.de>  ", "ann@b.de", "Ann Lee"),
        ("John Q. Public <j@b.de>", "j@b.de", "John Q. Public"),
        ('"Lee, Ann" <ann@b.de>', "ann@b.de", "Lee, Ann"),
        (r'"a \"b\" \\ c" <ann@b.de>', "ann@b.de", r'a "b" \ c'),
        ('"evil@x.de" <ann@b.de>', "ann@b.de", "evil@x.de"),
        ('"a b"@c.de', '"a b"@c.de', ""),
        ("Żółć <ann@bücher.example>", "ann@bücher.example", "Żółć"),
        ("=?utf-8?q?J=C3=B6rg?= <j@b.de>", "j@b.de", "Jörg"),
        ("=?iso-8859-1?q?J=F6?= =?iso-8859-1?q?rg?= <j@b.de>", "j@b.de", "Jörg"),
        ('"" <j@b.de>', "j@b.de", ""),
    ],
)
def test_mailboxes(text: str, address: str, name: str) -> None:
    assert parse_mailbox(text, "from") == Mailbox(address, name)


@pytest.mark.parametrize(
    "text",
    [
        "Ann",
        "Ann <ann@b.de",
        "Ann <ann@b.de>>",
        "Ann <ann@b.de> Lee",
        "Ann <>",
        "Ann < ann@b.de>",
        "Lee, Ann <ann@b.de>",
        "Ann (work) <ann@b.de>",
        "evil@x.de <ann@b.de>",
        "evil@x.de, <ann@b.de>",
        "team: a@b.de, c@d.de;",
        "undisclosed-recipients:;",
        "Ann <a@b.de>, Bob <c@d.de>",
        '"Ann <ann@b.de>',
        "=?utf-8?q?a=0D=0ABcc:x?= <a@b.de>",
        "=?utf-8?b?YQBi?= <a@b.de>",
    ],
)
def test_mailboxes_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_mailbox(text, "from")
    assert refused.value.errors[0].field == "from"


def test_lists() -> None:
    text = ' ,ann@b.de, "Lee, Bob" <bob@b.de>,, Żółć <c@d.de>, '
    assert parse_mailbox_list(text, "to", 3) == (
        Mailbox("ann@b.de"),
        Mailbox("bob@b.de", "Lee, Bob"),
        Mailbox("c@d.de", "Żółć"),
    )
    with pytest.raises(Invalid, match="to has more than 2 addresses"):
        parse_mailbox_list(text, "to", 2)
    for blank in ("", " , ,"):
        with pytest.raises(Invalid, match="can't be blank"):
            parse_mailbox_list(blank, "to", 2)
    for broken in ("a@b.de c@d.de", "a@b.de; c@d.de", "a@b.de, x", "a@b.de,(c),d@e.de"):
        with pytest.raises(Invalid, match="not a valid list"):
            parse_mailbox_list(broken, "to", 9)


def test_a_long_list_takes_linear_time() -> None:
    text = ",".join(f'"N, {n}" <user{n}@example{n % 7}.com>' for n in range(20_000))
    began = time.process_time()
    assert len(parse_mailbox_list(text, "to", 50_000)) == 20_000
    assert time.process_time() - began < 2


def test_domains() -> None:
    assert parse_domain("Mail.BÜCHER.example", "helo_name") == "mail.xn--bcher-kva.example"
    for bad in ("", "a b", "a\r\nb", "a.example\r\nRCPT", "-a", "1.2.3.4", "a@b", "a:25", "x" * 64, "a\x00"):
        with pytest.raises(Invalid, match=r"^helo_name is not a valid domain name"):
            parse_domain(bad, "helo_name")


def test_mixed_scripts_are_noticed() -> None:
    assert is_mixed_script("p\u0430ypal.com")  # Cyrillic a
    assert not is_mixed_script("пример.example")
    assert not is_mixed_script("bücher.example")
    assert not is_mixed_script("例えtest.example")


_ATEXT = "abcXYZ0189!#$%&'*+/=?^_`{|}~-éżβяж漢"
_LOCALS = st.lists(st.text(_ATEXT, min_size=1, max_size=6), min_size=1, max_size=3).map(".".join)
_DOMAINS = st.lists(
    st.from_regex(r"[a-zA-Z]([a-zA-Z0-9-]{0,5}[a-zA-Z])?", fullmatch=True), min_size=1, max_size=3
).map(".".join)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(_LOCALS, _DOMAINS)
def test_well_formed_addresses_parse_as_the_standard_library_reads_them(local: str, domain: str) -> None:
    text = f"{local}@{domain}"
    address = parse_address(text, "to")
    assert address.text == text
    assert parse_address(address.key, "to").key == address.key
    if local.isascii():
        judge = StdlibAddress(addr_spec=text)
        assert (judge.username, judge.domain) == (address.local, address.domain)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text('ab.@"\\<>(),:;[] \t\r\x00é\u2028=?', max_size=24))
def test_any_text_is_parsed_or_refused_and_never_changes_meaning(text: str) -> None:
    try:
        address = parse_address(text, "to")
    except Invalid:
        return
    assert isinstance(address, Address)
    assert address.text == text.strip(" \t")
    assert address.text.count("@") == 1
    assert parse_mailbox(text, "to") == Mailbox(address.text)
