"""One running `serve` with a test inbox for the tests of a module, and HTTP to it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.serve import Serve, serving


def ask(url: str, key: str, body: object = None, method: str | None = None) -> tuple[int, Any]:
    """One request with a key -> (status, JSON of the answer or None)."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Authorization", f"Bearer {key}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`serve` with an inbox, bootstrapped by a command while it runs."""
    data: Path = tmp_path_factory.mktemp("live") / "data"
    with serving(data, "--inbox", "127.0.0.1:0") as serve:
        yield serve
