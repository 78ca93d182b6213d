"""Imports point downwards: the ranks of the packages, held against every import in the source.

A package imports from lower ranks only; packages of one rank do not import each other. Imports inside
functions and under TYPE_CHECKING count as well: those are where knots hide first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import postroom

ROOT = Path(postroom.__file__).parent

RANKS = {
    "": -1,  # postroom/__init__.py: the version
    "errors": 0,
    "clock": 0,
    "ids": 0,
    "peers": 0,
    "secret": 0,
    "keyring": 0,
    "logs": 0,
    "packing": 0,
    "folder": 0,
    "child_python": 0,
    "loop_turns": 0,
    "tally": 0,
    "tracing": 0,
    "accepting": 1,
    "otel": 1,
    "mail": 1,
    "templates": 1,
    "core": 2,
    "storage": 3,
    "transports": 3,
    "actions": 5,
    "http": 6,
    "tracking": 6,
    "webhooks": 6,
    "engine": 7,
    "inbound": 7,
    "dialects": 8,  # each dialect is a package of its own: "dialects.broadcast"
    "web": 8,
    "config": 8,
    "backup": 8,
    "moving": 8,
    "control": 8,
    "metrics": 8,
    "wiring": 9,
    "serving": 10,
    "cli": 11,
}
PARTS = {
    "__main__": "cli",  # `python -m postroom` is the command line
    "roads": "wiring",  # which transport a connection gets
    "cluster": "wiring",  # this process among others on one database
    "opening": "wiring",  # a data folder, its database and its key file
    "of_settings": "wiring",  # what the parts are told of the settings
    "host_names": "wiring",  # what this machine is called
}

# Only wiring picks concrete parts; everybody else sees the interface.
CONCRETE = (
    "postroom.storage.sqlite.",
    "postroom.storage.postgres.",
    "postroom.transports.smtp.",
    "postroom.transports.apis.",
)


def package_of(module: str) -> str:
    """`postroom.engine.lanes` -> `engine`; `postroom.dialects.broadcast.routes` -> `dialects.broadcast`."""
    words = module.split(".")[1:]
    if not words:
        return ""
    if words[0] == "dialects":
        return ".".join(words[:2])
    return PARTS.get(words[0], words[0])


def rank_of(package: str) -> int | None:
    return RANKS.get(package.split(".")[0])


def imports_of(module: str, is_package: bool, tree: ast.AST, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and full name of every module of ours that a module imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package else -1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                is_module = inner in known or rank_of(package_of(inner)) is not None
                yield node.lineno, inner if is_module else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def violations(root: Path) -> list[str]:
    """One sentence per import below `root` that points up, sideways, or at a concrete part."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        words = [root.name, *path.relative_to(root).with_suffix("").parts]
        is_package = words[-1] == "__init__"
        modules[".".join(words[:-1] if is_package else words)] = (path, is_package)
    found = []
    for module, (path, is_package) in modules.items():
        package = package_of(module)
        rank = rank_of(package)
        if rank is None:
            found.append(f"{module}: package {package!r} has no rank")
            continue
        for line, target in imports_of(module, is_package, ast.parse(path.read_bytes()), set(modules)):
            if target.split(".")[0] != root.name or package_of(target) == package:
                continue
            other = rank_of(package_of(target))
            if other is None or other >= rank:
                found.append(f"{module}:{line} imports {target}, which is not below it")
            elif f"{target}.".startswith(CONCRETE) and package != "wiring":
                found.append(f"{module}:{line} imports {target}, which only wiring may")
    return found


def test_every_import_points_downwards() -> None:
    assert violations(ROOT) == []


def test_every_package_of_the_source_is_seen() -> None:
    found = {
        package_of(f"postroom.{path.stem}")
        for path in ROOT.iterdir()
        if path.suffix == ".py" or path.is_dir()
    }
    assert found - {"__pycache__", "__init__"} <= set(RANKS)
    assert {"mail", "core", "engine", "cli"} <= found


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("core/a.py", "from postroom.engine import lanes", "postroom.core.a:1 imports postroom.engine"),
        ("core/a.py", "import postroom.actions.accept", "imports postroom.actions.accept"),
        (
            "core/a.py",
            "def f():\n    from postroom import wiring",
            "postroom.core.a:2 imports postroom.wiring",
        ),
        (
            "mail/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from postroom.core.key import Key",
            "postroom.mail.a:3 imports postroom.core.key",
        ),
        (
            "storage/a.py",
            "from postroom.transports import interface",
            "imports postroom.transports.interface",
        ),
        ("engine/a.py", "from ..inbound import inbox", "imports postroom.inbound.inbox"),
        ("engine/__init__.py", "from ..inbound.inbox import Inbox", "imports postroom.inbound.inbox"),
        ("dialects/broadcast/a.py", "from ..postmark import b", "imports postroom.dialects.postmark"),
        (
            "dialects/broadcast/a.py",
            "from postroom.dialects import postmark",
            "imports postroom.dialects.postmark",
        ),
        ("errors.py", "from postroom.ids import KeyId", "imports postroom.ids"),
        ("actions/a.py", "import importlib\nimportlib.import_module('postroom.web')", "imports postroom.web"),
        ("actions/a.py", "from postroom.storage.sqlite import Store", "which only wiring may"),
        ("actions/a.py", "from postroom.storage import sqlite", "which only wiring may"),
        ("wiring.py", "from postroom import __main__", "imports postroom.__main__"),
        ("gadgets/a.py", "", "package 'gadgets' has no rank"),
        ("engine/a.py", "from postroom import gadgets", "imports postroom"),
    ],
)
def test_the_checker_finds_a_planted_violation(tmp_path: Path, path: str, source: str, said: str) -> None:
    root = _planted(tmp_path, path, source)
    if "import gadgets" in source:
        (root / "gadgets.py").touch()

    assert any(said in sentence for sentence in violations(root))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "engine/a.py",
            "from postroom.storage.interface import Store\nfrom postroom import __version__, ids",
        ),
        ("engine/a.py", "from . import lanes\nfrom .lanes import Lane\nfrom ..core import key"),
        ("engine/__init__.py", "from .lanes import Lane"),
        (
            "wiring.py",
            "from postroom.storage.sqlite import Store\nfrom postroom.dialects import broadcast, postmark",
        ),
        ("__main__.py", "from postroom.cli import main"),
        ("mail/a.py", "import email\nfrom collections import abc\nimport structlog"),
        ("dialects/broadcast/a.py", "from postroom.dialects.broadcast import schema\nfrom . import errors"),
    ],
)
def test_the_checker_lets_downward_imports_pass(tmp_path: Path, path: str, source: str) -> None:
    assert violations(_planted(tmp_path, path, source)) == []


def _planted(tmp_path: Path, path: str, source: str) -> Path:
    """A small tree with the usual packages and one module of the given source."""
    root = tmp_path / "postroom"
    for name in (
        "engine/lanes",
        "storage/sqlite",
        "dialects/postmark/b",
        "dialects/broadcast/schema",
        "web/a",
        path[:-3],
    ):
        file = root / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (root / path).write_text(source)
    return root
