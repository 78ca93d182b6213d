"""Folded texts and bitmaps of what follows each other in them: nothing that is there is ever missed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.ids import MessageId
from postroom.storage.subject_blocks import Unpacked, matching, pack
from postroom.storage.trigrams import BITS, bitmap_of, bits_of, folded, has

TEXT = st.text(st.sampled_from("aAbß\u0130σςΣ%_ \n\x00é€😀") | st.characters(codec="utf-8"), max_size=12)


@settings(derandomize=True, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_a_part_of_a_text_is_a_part_of_it_folded(before: str, part: str, after: str) -> None:
    whole = folded(before + part + after)
    assert folded(part) in whole
    assert has(bitmap_of(f"another\n{whole}\none"), bits_of(folded(part)))


@settings(derandomize=True, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=9), TEXT.filter(bool))
def test_a_block_finds_what_each_subject_says(subjects: list[str], wanted: str) -> None:
    messages = [(MessageId(5 + 3 * place), subject) for place, subject in enumerate(subjects)]
    block = pack(Unpacked(2, messages))
    assert (block.bitmap.first_id, block.bitmap.last_id, block.oldest) == (2, messages[-1][0], 5)
    expected = [number for number, subject in reversed(messages) if folded(wanted) in folded(subject)]
    assert matching(2, block.subjects, folded(wanted)) == expected


def test_letters_are_alike_in_any_case_and_place() -> None:
    assert folded("ΟΔΟΣ") in folded("οδοσα")
    assert folded("STRASSE") == folded("Straße")


def test_what_lacks_is_told() -> None:
    bitmap = bitmap_of("invoice\noffer")
    assert has(bitmap, bits_of("voice"))
    assert has(bitmap, bits_of("vo"))
    assert not has(bitmap, bits_of("receipt"))
    assert len(bitmap) == BITS // 8
