"""Lines for curl out of other people's documentation, as what curl would send."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request. content None: no body."""

    method: str = "GET"
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None


def read_curl(line: str) -> Request:
    """What curl does with a line: a body makes it a POST, and declares a form where no type is given."""
    words = iter(shlex.split(line.replace("\\\n", "")))
    assert next(words) == "curl"
    request, method = Request(), ""
    for word in words:
        if word in ("-X", "--request"):
            method = next(words)
        elif word in ("-H", "--header"):
            name, _, value = next(words).partition(": ")
            request.headers[name] = value
        elif word in ("-d", "--data-raw"):
            request.content = next(words).encode()
        elif word != "--location":
            assert not word.startswith("-"), word
            request.url = word
    if request.content is not None and "content-type" not in {name.lower() for name in request.headers}:
        request.headers["Content-Type"] = "application/x-www-form-urlencoded"
    request.method = method or ("GET" if request.content is None else "POST")
    return request
