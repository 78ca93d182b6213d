"""A request for something that a link in mail leads to: what its answer depends on, and the plain pages."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.http.asgi import Scope, Send, answer, header_values
from postroom.http.client_address import client_address
from postroom.peers import address_group, is_loopback
from postroom.web.languages import choose, texts
from postroom.web.page import headers, page

WRONG_PER_MINUTE = 60  # tokens that are not ours, from one address
HTML = b"text/html; charset=utf-8"


@dataclass(frozen=True)
class Asked:
    """token: what stands behind the path of the mount, whatever it is."""

    method: str
    token: str
    client: str
    language: str

    @classmethod
    def of(cls, scope: Scope, path: str) -> Asked:
        """Of a request below `path`."""
        return cls(
            scope["method"],
            scope["path"].removeprefix(f"{path}/"),
            client_address(scope),
            choose(",".join(header_values(scope["headers"], b"accept-language"))),
        )


async def say(
    send: Send,
    request: Asked,
    status: int,
    name: str,
    *more: tuple[bytes, bytes],
    wait_s: int = 0,
) -> None:
    """A page that is about nobody: nothing in it depends on the token."""
    words = texts()[request.language]
    document = page(request.language, words[f"{name}_title"], [words[f"{name}_text"]])
    retry = [(b"retry-after", b"%d" % wait_s)] if wait_s else []
    await answer(send, status, document, HTML, *headers(request.language), *retry, *more)


def guesser_of(client: str) -> str:
    """Whom wrong tokens are counted for.

    "" is counted for nobody: an unknown address, and loopback, which is a proxy that `trusted_proxies` does
    not name, so that everybody seems to come from there.
    """
    return "" if is_loopback(client) else address_group(client)
