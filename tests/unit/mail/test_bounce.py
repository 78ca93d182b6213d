"""Real refusals get the class they deserve, and only a proven dead address is suppressed."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.mail.bounce import BounceClass, classify, rules

CORPUS = Path(__file__).parents[2] / "corpus" / "replies.toml"


class Reply(msgspec.Struct, forbid_unknown_fields=True, rename={"bounce_class": "class"}):
    origin: str
    phase: str
    code: int
    text: str
    bounce_class: BounceClass
    suppresses: bool


class Replies(msgspec.Struct, forbid_unknown_fields=True):
    reply: list[Reply]


REPLIES = msgspec.convert(tomllib.loads(CORPUS.read_text("utf-8")), Replies).reply


@pytest.mark.parametrize("reply", REPLIES, ids=lambda r: f"{r.code} {r.text[:40]}")
def test_corpus(reply: Reply) -> None:
    verdict = classify(reply.code, "", reply.text, reply.phase)
    assert (verdict.bounce_class, verdict.suppresses) == (reply.bounce_class, reply.suppresses), verdict
    assert verdict.permanent == (reply.code >= 500)
    assert verdict.sender_refused == (reply.bounce_class is BounceClass.SENDER_REFUSED)


@pytest.mark.parametrize("phase", ["connect", "mail", "data", "body", "dot", "done", ""])
def test_nothing_but_rcpt_suppresses(phase: str) -> None:
    assert classify(550, "5.1.1", "User unknown", "rcpt").suppresses
    assert not classify(550, "5.1.1", "User unknown", phase).suppresses


@pytest.mark.parametrize("enhanced", ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"])
def test_hard_codes_suppress_without_a_text(enhanced: str) -> None:
    assert classify(550, enhanced, "", "rcpt").suppresses
    assert not classify(450, "4" + enhanced[1:], "", "rcpt").suppresses


@pytest.mark.parametrize(
    "enhanced", ["5.2.2", "5.2.1", "5.1.0", "5.7.1", "5.4.1", "5.0.0", "5.1.7", "5.1.8", ""]
)
def test_other_codes_never_do(enhanced: str) -> None:
    assert not classify(550, enhanced, "No.", "rcpt").suppresses


def test_n6_full_mailbox_is_soft_although_the_code_is_permanent() -> None:
    verdict = classify(552, "5.2.2", "Over quota", "rcpt")
    assert verdict.bounce_class is BounceClass.FULL_MAILBOX
    assert verdict.permanent
    assert not verdict.suppresses


def test_an_address_that_holds_words_of_a_rule_decides_nothing() -> None:
    verdict = classify(550, "5.1.1", "<spamhaus.quota.full@spf.example>: user unknown", "rcpt")
    assert verdict.bounce_class is BounceClass.UNKNOWN_ADDRESS


@pytest.mark.parametrize(
    ("code", "text", "permanent"),
    [(0, "5.1.1 gone", True), (0, "later", False), (999, "x", False), (250, "450 no", False)],
)
def test_q6_unknown_codes_are_temporary(code: int, text: str, permanent: bool) -> None:
    assert classify(code, "", text, "rcpt").permanent == permanent


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.integers(0, 999),
    st.text(max_size=300),
    st.text(max_size=12),
    st.sampled_from(["rcpt", "mail", "done"]),
)
def test_any_reply_gets_a_verdict(code: int, text: str, enhanced: str, phase: str) -> None:
    verdict = classify(code, enhanced, text, phase)
    assert not verdict.suppresses or (verdict.permanent and phase == "rcpt")


@pytest.mark.parametrize(
    "unit", ["a", " ", "user ", "message is ", "exceeds ", "\\(", "a@", "550-", "5.1.", "the account "]
)
def test_r1_no_rule_is_slow_on_hostile_text(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    classify(550, "", text, "rcpt")
    assert time.process_time() - began < 0.5


def test_rule_names_are_unique_and_every_class_is_in_the_corpus() -> None:
    names = [rule.name for rule in rules()]
    assert len(names) == len(set(names))
    assert {reply.bounce_class for reply in REPLIES} == set(BounceClass)
