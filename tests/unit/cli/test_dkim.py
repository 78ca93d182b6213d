"""`postroom identity dkim`, as it is used: the record, the way to a key that signs, rotation; refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from postroom.cli import exits, run
from tests.support.dkim_corpus import RSA_PEM

PRIVATE = "PRIVATE KEY"


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Dkim = Callable[..., Done]


@pytest.fixture
def dkim(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Dkim:
    """The command for example.com, which is trusted for everybody."""
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    assert run(["bootstrap"]) == run(["identity", "trust", "example.com"]) == 0
    capsys.readouterr()

    def run_one(*arguments: str, domain: str = "example.com") -> Done:
        code = run(["identity", "dkim", domain, *arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run_one


def test_a_key_is_made_once_and_shows_its_record(dkim: Dkim) -> None:
    first = dkim()
    assert first.code == 0
    assert "It does not sign yet." in first.out
    (key,) = dkim("--json").document["data"]
    record = key["record"]
    assert record["name"] == f"{key['selector']}._domainkey.example.com"
    assert record["value"].startswith("v=DKIM1; k=rsa; p=MIIBI")
    assert "".join(record["strings"]) == record["value"]
    assert max(map(len, record["strings"])) == 255
    for text in (record["name"], record["value"], record["zone_line"], "--activate"):
        assert text in first.out
    assert (key["state"], key["account_id"], key["server_id"]) == ("new", 0, None)


def test_rotation_from_the_first_key_to_the_last(dkim: Dkim) -> None:
    (old,) = dkim("--ed25519", "--selector", "old", "--json").document["data"]
    done = dkim("--activate", "--unchecked")
    assert (done.code, "old of example.com signs from now on" in done.out) == (0, True)
    assert dkim("--rotate", "--ed25519", "--selector", "new").code == 0
    refused = dkim("--rotate", "--ed25519")
    assert (refused.code, "new is new and was not activated yet" in refused.err) == (exits.REFUSED, True)
    switched = dkim("--activate", "--ed25519", "--unchecked", "--json").document
    assert (switched["selector"], switched["state"], switched["stopped"]) == ("new", "active", ["old"])
    signing = dkim("--selector", "new", "--retire", "--yes")
    assert (signing.code, "signs" in signing.err) == (exits.REFUSED, True)
    asked = dkim("--retire", "--json")
    assert (asked.code, asked.document["error"]["kind"]) == (exits.REFUSED, "invalid")
    gone = dkim("--retire", "--yes", "--json").document
    assert (gone["selector"], gone["state"]) == ("old", "retired")
    assert [one["selector"] for one in dkim("--ed25519", "--json").document["data"]] == ["new"]
    assert dkim("--stop").code == 0
    assert dkim("--stop").code == exits.NOT_FOUND
    assert old["record"]["value"].startswith("v=DKIM1; k=ed25519; p=")


def test_several_selectors_have_to_be_named(dkim: Dkim) -> None:
    for selector in ("one", "two"):
        assert dkim("--ed25519", "--selector", selector).code == 0
    refused = dkim("--activate", "--unchecked")
    assert (refused.code, "one, two" in refused.err) == (exits.REFUSED, True)
    assert dkim("--activate", "--unchecked", "--selector", "TWO").code == 0
    told = {one["selector"]: one["state"] for one in dkim("--ed25519", "--json").document["data"]}
    assert told == {"one": "new", "two": "active"}


def test_a_key_that_is_in_use_is_taken_over_and_never_shown(dkim: Dkim, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(RSA_PEM.read_bytes())
    done = dkim("--selector", "mine", "--private-key-file", str(file))
    assert done.code == 0
    shown = dkim("--selector", "mine", "--json")
    lines = RSA_PEM.read_text().splitlines()[2:-1]
    for told in (done.out, shown.out):
        assert PRIVATE not in told
        assert not any(line in told for line in lines)
    again = dkim("--selector", "mine", "--private-key-file", str(file))
    assert (again.code, "is taken" in again.err) == (exits.REFUSED, True)


@pytest.mark.parametrize("text", ["", "secret-words-in-no-form", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"])
def test_a_broken_key_is_refused_and_not_repeated(dkim: Dkim, tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.pem"
    file.write_text(text)
    done = dkim("--selector", "mine", "--private-key-file", str(file))
    assert (done.code, "is not a private key in PEM form" in done.err) == (exits.REFUSED, True)
    assert not any(line in done.err + done.out for line in text.splitlines() if line)
    assert dkim("--private-key-file", str(file)).code == exits.REFUSED, "it has a selector already"
    assert dkim("--selector", "mine", "--private-key-file", "/nowhere").code == exits.REFUSED


@pytest.mark.parametrize("selector", ["a_b", "a b", "..", "ä", 'a"; p=', "x" * 64, "-"])
def test_an_odd_selector_is_refused(dkim: Dkim, selector: str) -> None:
    done = dkim(f"--selector={selector}", "--ed25519")
    assert (done.code, "selector" in done.err) == (exits.REFUSED, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--rotate", "--retire"), exits.REFUSED),
        (("--unchecked",), exits.REFUSED),
        (("--activate",), exits.NOT_FOUND),
        (("--activate", "--selector", "none", "--unchecked"), exits.NOT_FOUND),
        (("--retire", "--yes"), exits.NOT_FOUND),
        (("--account", "99"), exits.NOT_FOUND),
        (("--server", "99"), exits.NOT_FOUND),
    ],
)
def test_what_does_not_fit_is_refused(dkim: Dkim, arguments: tuple[str, ...], code: int) -> None:
    assert dkim(*arguments).code == code


@pytest.mark.parametrize("domain", ["example.net", "sub.example.com", "no domain", "", "ann@example.com"])
def test_a_domain_that_is_not_trusted_gets_no_key(dkim: Dkim, domain: str) -> None:
    done = dkim("--ed25519", domain=domain)
    assert (done.code, "domain" in done.err.lower()) == (exits.REFUSED, True)


def test_whose_domain_it_is_is_found(dkim: Dkim, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["identity", "trust", "shop.example", "--server", "1"]) == 0
    capsys.readouterr()
    (key,) = dkim("--ed25519", "--json", domain="shop.example").document["data"]
    assert (key["account_id"], key["server_id"]) == (1, 1)
    refused = dkim("--ed25519", "--account", "1", domain="shop.example")
    assert (refused.code, "not trusted here" in refused.err) == (exits.REFUSED, True)
