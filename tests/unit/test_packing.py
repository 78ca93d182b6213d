"""What is stored deflated is read back, whoever deflated it."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib

import pytest

from postroom.packing import deflate, inflate

TEXTS = [b"", b"x", b"All work and no play. " * 1000, os.urandom(5000), bytes(range(256)) * 40]

DAMAGED = [b"", b"xx", deflate(b"abc" * 100)[:-3], deflate(b"abc" * 100)[:-1] + b"x"]


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_either_reads_what_the_other_wrote(text: bytes) -> None:
    assert inflate(deflate(text)) == text
    assert zlib.decompress(deflate(text)) == text
    assert inflate(zlib.compress(text, 1)) == text


@pytest.mark.parametrize("damaged", DAMAGED, ids=["empty", "nothing of ours", "cut off", "changed"])
def test_damage_is_told(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="inflated"):
        inflate(damaged)


def test_where_it_is_not_installed_the_standard_library_does_it() -> None:
    code = (
        "import sys; sys.modules['isal'] = None\n"
        "from postroom.packing import deflate, inflate\n"
        "assert inflate(deflate(b'text')) == b'text'\n"
        "try: inflate(b'xx')\n"
        "except ValueError: print('told')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "told\n"
