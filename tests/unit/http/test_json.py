"""Strict JSON: what is refused, that it takes no time, and that plain JSON passes."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.http.json import MOST_DEPTH, Malformed, parse, parse_object

REFUSED = {
    "empty": b"",
    "not a number": b"[NaN]",
    "infinity": b"[-Infinity]",
    "out of range": b"[1e400]",
    "a name twice": b'{"a": 1, "b": {}, "a": 2}',
    "a name twice, once escaped": b'{"a": 1, "\\u0061": 2}',
    "a name twice in an inner object": b'[{"x": {"a": 1, "a": 1}}]',
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "lone surrogate": b'"\\ud800"',
    "surrogates the wrong way round": b'"\\udc00\\ud800"',
    "encoded surrogate": b'"\xed\xa0\x80"',
    "lone surrogate in a name": b'{"\\ud800": 1}',
    "text after it": b"{} {}",
    "many values": b"[" + b"1," * 300_000 + b"1]",
    "quotation marks": b'"' * 1_000_000,
    "escapes without an end": b'"' + b'\\"' * 500_000,
    "a number of a million digits": b"1" * 1_000_000,
    "blanks": b" " * 1_000_000,
    "a name and blanks": b'{"a"' + b" " * 1_000_000,
    "not closed": b'{"a": [1, 2}',
}


@pytest.mark.parametrize("name", REFUSED)
def test_w1_refused(name: str) -> None:
    with pytest.raises(Malformed):
        parse(REFUSED[name])


def test_w1_all_of_it_in_no_time() -> None:
    # In processor time, so that a busy machine does not fail it; each may take 100 ms.
    begun = time.process_time()
    for body in REFUSED.values():
        with pytest.raises(Malformed):
            parse(body)
    assert time.process_time() - begun < 0.1 * len(REFUSED)


@pytest.mark.parametrize("backslashes", [0, 1, 2, 3, 62, 63, 64, 65, 66, 200, 201])
@pytest.mark.parametrize("quotes", [1, 98, 99, 100, 101, 300])
def test_a_quote_is_escaped_by_an_odd_number_of_backslashes(backslashes: int, quotes: int) -> None:
    """However many, the text ends where it ends, and a name after it is the second of its kind."""
    text = b"\\" * (backslashes // 2 * 2) + b'x\\"' * quotes + b"\\" * (backslashes // 2 * 2)
    body = b'{"a": "' + text + b'", "b": [1, "' + text + b'"], "c": 2}'
    assert parse(body) == json.loads(body)
    with pytest.raises(Malformed, match="twice"):
        parse(body[:-1] + b', "a": 3}')
    with pytest.raises(Malformed, match="not valid"):
        parse(b'{"a": "' + text + b'\\"}')


def test_depth_counts_what_is_open() -> None:
    assert parse(b"[" * MOST_DEPTH + b"]" * MOST_DEPTH) is not None
    with pytest.raises(Malformed, match="nested"):
        parse(b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1))
    assert parse(b"[" + b"[],{}," * 1000 + b"1]") is not None


def test_one_name_in_several_objects_is_fine() -> None:
    body = b'{"a": {"a": [{"a": 1}, {"a": 2}]}, "b": "\\"a\\": 1, \\"a\\": 2 {[", "": 0}'
    assert parse(body) == json.loads(body)


def test_an_object_is_asked_for() -> None:
    assert parse_object(b" \r\n") == {}
    for body in (b"[]", b"1", b'"{}"', b"null"):
        with pytest.raises(Malformed, match="object"):
            parse_object(body)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab\\"{}[]:,é ', max_size=4), inner),
    max_leaves=20,
)


@given(_VALUES, st.booleans(), st.sampled_from([None, 1]))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_what_a_strict_writer_writes_is_read(value: object, ascii_only: bool, indent: int | None) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()) == value


@given(st.binary(max_size=60) | st.text('{}[]",:\\au0019 ', max_size=60).map(str.encode))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_it_refuses_or_reads_as_msgspec_does(body: bytes) -> None:
    try:
        value = parse(body)
    except Malformed:
        return
    assert value == msgspec.json.decode(body)
