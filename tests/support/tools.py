"""Other people's software that `scripts/test-tools` fetched, and why a test that needs it is skipped."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / ".tools" / "debian"  # packages, unpacked as they would lie under /
NODE_CLIENTS = ROOT / "tests" / "clients" / "node"


def needs(name: str) -> pytest.MarkDecorator:
    """For tests that need `debian` or `node`: skip them with the reason where it could not be had."""
    why = _missing(name)
    return pytest.mark.skipif(bool(why), reason=why)


def _missing(name: str) -> str:
    tools = ROOT / ".tools"
    told = tools / f"{name}.missing"
    if told.exists():
        return told.read_text("utf-8").strip()
    return "" if (tools / f"{name}.made-from").exists() else "scripts/test-tools was not run"


@functools.cache
def perl_environment() -> dict[str, str]:
    """This process's environment, and where the unpacked Perl modules are."""
    folders = [DEBIAN / "usr/share/perl5", *DEBIAN.glob("usr/lib/*/perl5/*")]
    return {**os.environ, "PERL5LIB": ":".join(map(str, folders))}
