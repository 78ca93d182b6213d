"""docs/audit.md and the source name the same lines of the audit trail."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ACTION = re.compile(r"[a-z_]{3,}\.[a-z_]+")  # one letter: a name in SQL


def written() -> set[str]:
    """Every action that the source names, in the files that write lines."""
    return {action for path in sorted((ROOT / "postroom").rglob("*.py")) for action in actions_in(path)}


def actions_in(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    adds = [
        one for one in ast.walk(tree) if isinstance(one, ast.Call) and ast.unparse(one.func) == "audit.add"
    ]
    for one in adds:
        # Put together of pieces, nobody finds it again by its name.
        assert not isinstance(one.args[3], ast.JoinedStr), f"{path}:{one.lineno}"
    if adds:
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and _ACTION.fullmatch(node.value)
            ):
                yield node.value


def told() -> set[str]:
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return {action for row in rows for action in re.findall(r"`([a-z_]+\.[a-z_]+)`", row)}


def test_the_page_has_every_line_and_no_other() -> None:
    assert len(written()) > 20
    assert written() == told()
