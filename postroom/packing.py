"""What is stored deflated (zlib, RFC 1950), by ISA-L where it is installed: four times as fast.

Either reads what the other wrote.
"""

from __future__ import annotations

import zlib
from typing import cast

_DAMAGED: type[Exception]
try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # no wheel for this machine
    _compress, _decompress, _DAMAGED = zlib.compress, zlib.decompress, zlib.error
else:
    _compress, _decompress = isal_zlib.compress, isal_zlib.decompress
    _DAMAGED = cast(type[Exception], igzip_lib.IsalError)


def deflate(data: bytes) -> bytes:
    """Smaller, as a rule."""
    return _compress(data, 1)


def inflate(data: bytes) -> bytes:
    """The reverse. Raises ValueError when it is damaged."""
    try:
        return _decompress(data)
    except _DAMAGED as error:
        raise ValueError(f"it cannot be inflated: {error}") from error
