"""The table of vendors: complete, without contradictions, and used for what a new connection leaves out."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from postroom.actions.changes import UNSET
from postroom.actions.connection_draft import FLAG_OPTIONS, TEXT_OPTIONS, ConnectionDraft
from postroom.actions.vendor_defaults import with_vendor_defaults
from postroom.cli import exits, run
from postroom.core.connection import SECRET_FIELDS, DeliveryMethod, Vendor
from postroom.transports.vendors import REGION, VendorRow, vendors

KEY = "SG.key"


def test_every_vendor_has_its_row_and_no_other_has() -> None:
    assert set(vendors()) == set(Vendor)


@pytest.mark.parametrize("vendor", list(Vendor))
def test_a_row_does_not_contradict_itself(vendor: Vendor) -> None:
    row = vendors()[vendor]
    assert row.title
    assert DeliveryMethod.SMTP in row.methods
    assert row.has_api == bool(row.api_url and row.api_secrets)
    assert set(row.api_secrets) <= set(SECRET_FIELDS)
    assert set(row.api_options) <= {*TEXT_OPTIONS, *FLAG_OPTIONS}
    assert bool(row.smtp_host) == bool(row.smtp_ports)
    ports = (*row.smtp_ports, *row.smtp_tls_ports)
    assert all(0 < port < 65_536 for port in ports)
    assert len(set(ports)) == len(ports)
    assert not (row.smtp_username and row.password_is_username)
    assert row.docs or vendor is Vendor.OTHER
    assert all(page.startswith("https://") for page in row.docs)
    assert row.api_url == "" or re.fullmatch(r"https://[a-z0-9.{}-]+", row.api_url)
    assert ("aws_region" in row.api_options) == (REGION in row.api_url)


def test_a_row_with_a_word_nobody_knows_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"title": "X", "methods": ["smtp"], "smtp_prot": 25}, VendorRow)


def test_a_region_stands_in_hosts_and_urls() -> None:
    row = vendors()[Vendor.AWS_SES]
    assert row.host_in("eu-west-1") == "email-smtp.eu-west-1.amazonaws.com"
    assert row.api_url_in("eu-west-1") == "https://email.eu-west-1.amazonaws.com"
    assert row.host_in("") == ""


@pytest.mark.parametrize(
    ("vendor", "secrets", "options", "host", "username"),
    [
        ("sendgrid", {"smtp_password": KEY}, {}, "smtp.sendgrid.net", "apikey"),
        ("resend", {"smtp_password": KEY}, {}, "smtp.resend.com", "resend"),
        ("postmark", {"smtp_password": KEY}, {}, "smtp.postmarkapp.com", KEY),
        (
            "aws_ses",
            {"smtp_username": "AKIA", "smtp_password": KEY},
            {"aws_region": "us-east-1"},
            "email-smtp.us-east-1.amazonaws.com",
            "AKIA",
        ),
    ],
)
def test_a_draft_gets_what_its_vendor_tells(
    vendor: str, secrets: dict[str, object], options: dict[str, object], host: str, username: str
) -> None:
    filled = with_vendor_defaults(ConnectionDraft(vendor=vendor, secrets=secrets, options=options))
    assert (filled.host, filled.port, filled.auth) == (host, 587, "plain")
    assert filled.secrets["smtp_username"] == username


def test_what_was_given_stands() -> None:
    given = ConnectionDraft(
        vendor="sendgrid",
        host="relay.example.com",
        port=25,
        auth="login",
        secrets={"smtp_username": "me", "smtp_password": KEY},
    )
    assert with_vendor_defaults(given) == given


@pytest.mark.parametrize("vendor", ["other", "nobody", 7, None, UNSET])
def test_where_nothing_is_known_nothing_is_filled_in(vendor: object) -> None:
    given = ConnectionDraft(vendor=vendor, secrets={"smtp_password": KEY})
    assert with_vendor_defaults(given) == given


def test_ses_without_a_region_has_no_host_yet() -> None:
    assert with_vendor_defaults(ConnectionDraft(vendor="aws_ses")).host is UNSET


def test_an_api_connection_gets_no_smtp_settings() -> None:
    given = ConnectionDraft(vendor="postmark", delivery_method="api")
    assert with_vendor_defaults(given) == given


def _document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run([*arguments, "--json"]) == exits.OK
    return json.loads(capsys.readouterr().out)


def test_the_commands_show_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    listed = _document(capsys, "vendor", "list")
    assert [one["vendor"] for one in listed["data"]] == [vendor.value for vendor in vendors()]
    shown = _document(capsys, "vendor", "show", "sendgrid")
    assert shown["smtp_username"] == "apikey"
    assert run(["vendor", "list"]) == exits.OK
    assert "email-smtp.REGION.amazonaws.com" in capsys.readouterr().out


def test_a_vendor_nobody_knows_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vendor", "show", "acme", "--json"]) == exits.NOT_FOUND
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "not_found"
