"""The rules of a connection: every field error at once, in the words the ways in rely on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.actions.connection_draft import (
    NO_PURPOSE,
    NO_RULES,
    ConnectionChanges,
    ConnectionDraft,
    ConnectionRules,
    Merged,
    merge,
)
from postroom.core.connection import SECRET_FIELDS, Connection, DeliveryMethod, Security, Vendor
from postroom.core.message import Purpose
from postroom.errors import FieldError, Invalid
from postroom.ids import AccountId, ConnectionId
from postroom.secret import Secret

BROADCAST = ConnectionRules(hourly_cap_required=True, login_required=True)
BLANK = Connection(
    account_id=AccountId(1),
    connection_id=ConnectionId(1),
    server_id=None,
    uid=b"u" * 16,
    label="",
    vendor=Vendor.OTHER,
    delivery_method=DeliveryMethod.SMTP,
    enabled=True,
    failed_at_us=None,
    failed_reason=None,
    disabled_at_us=None,
    held_until_us=None,
    purposes=frozenset(),
    hourly_cap=None,
    daily_cap=None,
    host="",
    port=0,
    security=Security.AUTO,
    auth="",
    sender=None,
    options={},
    version=1,
    created_at_us=0,
    updated_at_us=0,
    deleted_at_us=None,
)
GOOD = ConnectionDraft(
    label="Relay",
    hourly_cap=1000,
    for_broadcast=True,
    host="smtp.example.com",
    port=587,
    auth="plain",
    secrets={"smtp_username": "user", "smtp_password": "pass"},
)


def draft(
    changes: ConnectionDraft = GOOD,
    rules: ConnectionRules = BROADCAST,
    /,
    **fields: Any,  # Any: wrong types are the point
) -> Merged:
    return merge(BLANK, frozenset(), replace(changes, **fields), rules)


def errors_of(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        draft(**fields)
    return [(error.field, error.reason) for error in caught.value.errors]


@pytest.mark.parametrize("word", ["auto", "always", "never"])
def test_whether_mail_is_signed_is_one_of_three_words(word: str) -> None:
    assert draft(options={"dkim": word}).connection.options["dkim"] == word


@pytest.mark.parametrize("word", ["yes", "ALWAYS", "x" * 300, 1, True])
def test_any_other_word_is_refused(word: object) -> None:
    with pytest.raises(Invalid) as caught:
        draft(options={"dkim": word})
    assert [error.field for error in caught.value.errors] == ["dkim"]


def test_a_good_draft_takes_the_defaults() -> None:
    merged = draft()
    made = merged.connection
    assert (made.vendor, made.delivery_method, made.enabled) == (Vendor.OTHER, DeliveryMethod.SMTP, True)
    assert made.purposes == {Purpose.BROADCAST}
    assert (made.host, made.port, made.auth, made.hourly_cap) == ("smtp.example.com", 587, "plain", 1000)
    assert made.options == {
        "include_unsubscribe_header": True,
        "include_unsubscribe_link": True,
        "use_custom_unsubscribe_link": False,
        "custom_unsubscribe_link": None,
        "aws_region": None,
        "aws_ses_configuration_set": None,
        "postmark_transactional_stream": None,
        "postmark_broadcast_stream": None,
        "api_url": None,
        "dkim": None,
        "inboxroad_sync_enabled": False,
        "smtp_com_channel": None,
        "smtp_enable_starttls_auto": True,
    }
    assert merged.set_secrets == {"smtp_username": "user", "smtp_password": "pass"}


def test_an_empty_draft_names_every_field_once() -> None:
    with pytest.raises(Invalid) as caught:
        merge(BLANK, frozenset(), ConnectionDraft(), BROADCAST)
    assert caught.value.errors == (
        FieldError("label", "can't be blank"),
        FieldError("hourly_cap", "can't be blank"),
        FieldError("host", "can't be blank"),
        FieldError("port", "can't be blank"),
        FieldError("smtp_username", "can't be blank"),
        FieldError("smtp_password", "can't be blank"),
        FieldError("auth", "can't be blank"),
        FieldError("base", NO_PURPOSE),
    )


def test_label_and_purpose_come_in_the_documented_order() -> None:
    assert errors_of(label=" ", for_broadcast=False) == [("label", "can't be blank"), ("base", NO_PURPOSE)]


@pytest.mark.parametrize(
    ("cap", "reason"),
    [
        (14, "must be greater than or equal to 15"),
        (-1, "must be greater than or equal to 15"),
        (2**31, "must be less than or equal to 2147483647"),
        (2**63, "must be less than or equal to 2147483647"),
        ("9" * 300, "must be less than or equal to 2147483647"),
        (1.5, "must be an integer"),
        ("1000.5", "must be an integer"),
        (float("inf"), "is not a number"),
        (float("nan"), "is not a number"),
        (True, "is not a number"),
        ("many", "is not a number"),
        ("١٠٠", "is not a number"),
        ([1000], "is not a number"),
        (None, "can't be blank"),
        ("", "can't be blank"),
    ],
)
def test_hourly_cap_w17(cap: object, reason: str) -> None:
    assert errors_of(hourly_cap=cap) == [("hourly_cap", reason)]


@pytest.mark.parametrize("cap", [15, "15", " 15 ", 2_147_483_647])
def test_hourly_cap_within_its_bounds(cap: object) -> None:
    assert draft(hourly_cap=cap).connection.hourly_cap == int(str(cap))


def test_the_hourly_cap_is_optional_unless_demanded() -> None:
    assert draft(GOOD, NO_RULES, hourly_cap=None).connection.hourly_cap is None


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        (0, "must be greater than or equal to 1"),
        (65_536, "must be less than or equal to 65535"),
        ("587; ls", "is not a number"),
        (None, "can't be blank"),
    ],
)
def test_port_w17(port: object, reason: str) -> None:
    assert errors_of(port=port) == [("port", reason)]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("\u200b \u2060", "can't be blank"),
        ("\0\0", "can't be blank"),
        ("a\0b", "contains characters that are not allowed"),
        ("a\r\nb", "contains characters that are not allowed"),
        ("a\u2028b", "contains characters that are not allowed"),
        ("a\u202eb", "contains characters that are not allowed"),
        ("a\ud800", "contains characters that are not allowed"),
        ("x" * 256, "is too long (maximum is 255 characters)"),
        (7, "must be text"),
        (None, "can't be blank"),
    ],
)
def test_label_w18(label: object, reason: str) -> None:
    assert errors_of(label=label) == [("label", reason)]


@pytest.mark.parametrize("label", ["x" * 255, "📮 Versand 👩‍💻", "بريد"])
def test_labels_in_any_script(label: str) -> None:
    assert draft(label=f"  {label} ").connection.label == label


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("SMTP.Example.com.", "smtp.example.com"),
        (" localhost ", "localhost"),
        ("mail_relay", "mail_relay"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_hosts(written: str, stored: str) -> None:
    assert draft(host=written).connection.host == stored


@pytest.mark.parametrize(
    "host",
    [
        "smtp://mail.example.com",
        "mail.example.com:25",
        "mail.example.com/x",
        "user@mail.example.com",
        "mail example.com",
        "mail.example.com\r\nQUIT",
        "mail\0.example.com",
        "a..b",
        "-a.example",
        "a" * 64 + ".example",
        "a." * 130 + "example",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "fe80::1%eth0",
        "127。0。0。1",
        "mail?x",
        "",
        25,
    ],
)
def test_hosts_that_are_none(host: object) -> None:
    assert [field for field, _ in errors_of(host=host)] == ["host"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"vendor": "smtp"}, ("vendor", "is not included in the list")),
        ({"vendor": ["other"]}, ("vendor", "is not included in the list")),
        ({"delivery_method": "aws_ses"}, ("delivery_method", "is not included in the list")),
        ({"auth": "ntlm"}, ("auth", "is not included in the list")),
        ({"auth": None}, ("auth", "can't be blank")),
        ({"security": "ssl"}, ("security", "is not included in the list")),
        ({"enabled": "maybe"}, ("enabled", "is not included in the list")),
        ({"for_sequence": 2}, ("for_sequence", "is not included in the list")),
        ({"daily_cap": 0}, ("daily_cap", "must be greater than or equal to 1")),
        ({"sender": "a@b@c"}, ("sender", "is not a valid email address: it has more than one @")),
        ({"options": {"use_custom_unsubscribe_link": True}}, ("custom_unsubscribe_link", "can't be blank")),
        (
            {"options": {"custom_unsubscribe_link": "https://x\r\nBcc: a@b"}},
            ("custom_unsubscribe_link", "contains characters that are not allowed"),
        ),
        (
            {"options": {"custom_unsubscribe_link": "x" * 2001}},
            ("custom_unsubscribe_link", "is too long (maximum is 2000 characters)"),
        ),
        ({"options": {"aws_region": "us-east-1.evil.example/"}}, ("aws_region", "is not a valid region")),
        ({"options": {"account_id": 7}}, ("account_id", "is not a setting of a connection")),
        ({"secrets": {**GOOD.secrets, "uid": "x"}}, ("uid", "is not a setting of a connection")),
    ],
)
def test_one_field_at_a_time(fields: dict[str, Any], error: tuple[str, str]) -> None:
    assert errors_of(**fields) == [error]


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("a\r\nb", "contains characters that are not allowed"),
        ("a\0b", "contains characters that are not allowed"),
        ("a\ud800", "contains characters that are not allowed"),
        ("é" * 2049, "is too long (maximum is 4096 bytes)"),
        ("   ", "can't be blank"),
        (123, "must be text"),
    ],
)
def test_secrets_that_are_none(secret: object, reason: str) -> None:
    errors = errors_of(secrets={"smtp_username": "user", "smtp_password": secret})
    assert errors == [("smtp_password", reason)]


@pytest.mark.parametrize("vendor", list(Vendor))
def test_the_vendor_matrix(vendor: Vendor) -> None:
    keys = dict.fromkeys(SECRET_FIELDS, "key")
    fields: dict[str, Any] = {
        "vendor": vendor.value,
        "delivery_method": "api",
        "secrets": keys,
        "options": {"aws_region": "eu-west-1"},
    }
    if vendor in {Vendor.AWS_SES, Vendor.POSTMARK}:
        assert draft(**fields).connection.delivery_method is DeliveryMethod.API
    else:
        assert errors_of(**fields) == [("delivery_method", "is not supported by this vendor")]
    assert draft(vendor=vendor.value).connection.vendor is vendor


@pytest.mark.parametrize(
    "url", ["ftp://x.example", "x.example", "https://me@x.example", "https://x.example?a"]
)
def test_x19_where_an_api_is_must_be_a_plain_url(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        draft(options={"api_url": url})
    assert [error.field for error in caught.value.errors] == ["api_url"]


def test_an_api_needs_its_keys_and_no_smtp_fields() -> None:
    bare = ConnectionDraft(label="API", hourly_cap=500, for_transactional=True, delivery_method="api")
    with pytest.raises(Invalid) as caught:
        draft(bare, vendor="aws_ses")
    assert [error.field for error in caught.value.errors] == [
        "outbound_aws_access_key_id",
        "outbound_aws_secret_access_key",
        "aws_region",
    ]
    with pytest.raises(Invalid) as caught:
        draft(bare, vendor="postmark")
    assert caught.value.errors == (FieldError("postmark_api_token", "can't be blank"),)
    made = draft(bare, vendor="postmark", secrets={"postmark_api_token": Secret("token")})
    assert made.set_secrets == {"postmark_api_token": "token"}
    assert (made.connection.host, made.connection.port) == ("", 0)


def test_a_login_is_whole_or_absent_where_it_is_not_demanded() -> None:
    bare = replace(GOOD, auth=None, secrets={})
    assert draft(bare, NO_RULES).connection.auth == ""
    with pytest.raises(Invalid) as caught:
        draft(bare, NO_RULES, secrets={"smtp_username": "user"})
    assert [error.field for error in caught.value.errors] == ["smtp_password", "auth"]


@pytest.mark.parametrize(
    ("value", "enabled"), [(True, True), (1, True), ("1", True), ("true", True), (0, False), ("false", False)]
)
def test_spellings_of_flags(value: object, enabled: bool) -> None:
    assert draft(enabled=value).connection.enabled is enabled


def test_starttls_is_a_spelling_of_security() -> None:
    off = draft(options={"smtp_enable_starttls_auto": False})
    assert off.connection.security is Security.NEVER
    assert off.connection.options["smtp_enable_starttls_auto"] is False
    kept = merge(
        replace(draft(security="required").connection),
        frozenset(GOOD.secrets),
        ConnectionChanges(options={"smtp_enable_starttls_auto": True}),
        BROADCAST,
    )
    assert kept.connection.security is Security.REQUIRED
    back = merge(
        off.connection,
        frozenset(GOOD.secrets),
        ConnectionChanges(options={"smtp_enable_starttls_auto": True}),
        BROADCAST,
    )
    assert back.connection.security is Security.AUTO


def test_changes_keep_what_they_do_not_name() -> None:
    stored = draft().connection
    merged = merge(stored, frozenset(GOOD.secrets), ConnectionChanges(label="New"), BROADCAST)
    assert merged.connection == replace(stored, label="New")
    assert (merged.set_secrets, merged.cleared_secrets) == ({}, frozenset())


def test_the_merged_record_is_what_is_checked() -> None:
    stored = draft().connection
    with pytest.raises(Invalid) as caught:
        merge(
            stored,
            frozenset(GOOD.secrets),
            ConnectionChanges(for_broadcast=False, hourly_cap=None, secrets={"smtp_password": None}),
            BROADCAST,
        )
    assert caught.value.errors == (
        FieldError("hourly_cap", "can't be blank"),
        FieldError("smtp_password", "can't be blank"),
        FieldError("base", NO_PURPOSE),
    )


def test_changes_do_not_demand_what_the_connection_never_had() -> None:
    bare = draft(replace(GOOD, auth=None, secrets={}, hourly_cap=None), NO_RULES).connection
    assert merge(bare, frozenset(), ConnectionChanges(label="New"), BROADCAST).connection.label == "New"
    with pytest.raises(Invalid):
        merge(bare, frozenset(), ConnectionChanges(auth="plain"), BROADCAST)


def test_switching_to_smtp_demands_the_login() -> None:
    api = draft(
        ConnectionDraft(label="API", hourly_cap=500, for_transactional=True),
        vendor="postmark",
        delivery_method="api",
        secrets={"postmark_api_token": "token"},
    ).connection
    changes = ConnectionChanges(delivery_method="smtp", host="smtp.example.com", port=25)
    with pytest.raises(Invalid) as caught:
        merge(api, frozenset({"postmark_api_token"}), changes, BROADCAST)
    assert [error.field for error in caught.value.errors] == ["smtp_username", "smtp_password", "auth"]


_anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
_FIELDS = [name for name in ConnectionDraft.__dataclass_fields__ if name not in {"secrets", "options"}]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(_FIELDS), _anything, max_size=6),
    st.dictionaries(st.sampled_from(SECRET_FIELDS), _anything, max_size=3),
    st.dictionaries(st.sampled_from(["aws_region", "include_unsubscribe_link", "x"]), _anything, max_size=3),
)
def test_whatever_comes_in_is_taken_or_refused(
    fields: dict[str, object], secrets: dict[str, object], options: dict[str, object]
) -> None:
    try:
        made = draft(**fields, secrets={**GOOD.secrets, **secrets}, options=options).connection
    except Invalid as error:
        names = [one.field for one in error.errors]
        assert len(names) == len(set(names))
    else:
        assert made.purposes
        assert made.label.strip()
        assert made.hourly_cap is not None
        assert 15 <= made.hourly_cap <= 2_147_483_647
        assert made.delivery_method is DeliveryMethod.API or 1 <= made.port <= 65_535
        assert not set(made.host) & set(" \r\n\0/@")


@pytest.mark.parametrize(
    "link",
    [
        *(
            "https://a.example/x>y",
            "https://a.example/a b",
            'mailto:"a"@b',
            "https://a.example/" + "x" * 1900,
        ),
        *("https://a.example/\r\nBcc: x", "[unsub\nscribe]"),
    ],
)
def test_u5_a_custom_link_that_could_break_a_header_is_refused(link: str) -> None:
    (found,) = errors_of(options={"use_custom_unsubscribe_link": True, "custom_unsubscribe_link": link})
    assert found[0] == "custom_unsubscribe_link"


@pytest.mark.parametrize(
    "link",
    [
        *("https://a.example/off?x=1", "mailto:off@a.example", "[unsubscribe]", "{{{ pm:unsubscribe }}}"),
        *("<%asm_group_unsubscribe_raw_url%>", '<a href="https://a.example/x y">Off</a>'),
    ],
)
def test_a_custom_link_is_any_text(link: str) -> None:
    options = {"use_custom_unsubscribe_link": True, "custom_unsubscribe_link": link}
    assert draft(options=options).connection.options["custom_unsubscribe_link"] == link
