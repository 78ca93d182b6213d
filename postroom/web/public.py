"""The unsubscribe page, which links in mail lead to, and the POST of RFC 8058 from mailbox providers.

GET and HEAD show and change nothing, because programs follow links too. A POST with the body of RFC 8058
acts and answers without asking; the page's own buttons POST as well. Any other body is refused. A token that
we did not make, or that was changed, gets one and the same page. There are no cookies, so there is nothing to
forge: whoever has the token may act on its one address. Who tries many wrong ones is refused for a while.
"""

from __future__ import annotations

from postroom.actions.context import Context
from postroom.actions.unsubscribing import Standing, Subscription, Way, look_up, resubscribe, unsubscribe
from postroom.errors import NotFound, PostroomError, TooLarge, Unavailable
from postroom.http.asgi import Receive, Scope, Send, answer, header_values
from postroom.http.body_limits import read_body
from postroom.http.rate import RateLimiter
from postroom.ids import DeliveryId
from postroom.logs import logger
from postroom.tracking.links import UNSUBSCRIBE_PATH, MailLinks
from postroom.tracking.tokens import TokenKind
from postroom.web.asked import HTML, WRONG_PER_MINUTE, Asked, guesser_of, say
from postroom.web.forms import read_form
from postroom.web.languages import texts
from postroom.web.page import Button, headers, page

log = logger("web")
PATHS = (UNSUBSCRIBE_PATH,)
MOST_BODY_BYTES = 8 << 10
CHANGES_PER_MINUTE = 30  # with one token


class PublicPages:
    """The application below `/u`."""

    def __init__(self, ctx: Context, links: MailLinks) -> None:
        self._ctx, self._links = ctx, links
        self._wrong = RateLimiter(ctx.clock, WRONG_PER_MINUTE)
        self._changes = RateLimiter(ctx.clock, CHANGES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Asked.of(scope, UNSUBSCRIBE_PATH)
        try:
            await self._answer(request, scope, receive, send)
        except Unavailable as error:
            await say(send, request, 503, "later", wait_s=error.retry_after_s)
        except TooLarge:
            await say(send, request, 413, "bad")
        except PostroomError:
            await say(send, request, 400, "bad")
        except Exception as error:
            # Not with its values: the path holds the token.
            log.error("a page could not be made", exc_info=error)
            await say(send, request, 500, "later")

    async def _answer(self, request: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        if request.method not in ("GET", "HEAD", "POST"):
            await say(send, request, 405, "bad", (b"allow", b"GET, HEAD, POST"))
            return
        guesser = guesser_of(request.client)
        if guesser and (wait_s := self._wrong.wait_s(guesser)):
            await say(send, request, 429, "later", wait_s=wait_s)
            return
        try:
            delivery_id = self._delivery(request.token)
            found = await look_up(self._ctx, delivery_id)
        except NotFound:
            if guesser:
                self._wrong.take(guesser)
            await say(send, request, 404, "missing")
            return
        if request.method == "POST":
            await self._act(request, delivery_id, scope, receive, send)
        else:
            await _show(send, request, found)

    def _delivery(self, text: str) -> DeliveryId:
        token = self._links.read(TokenKind.UNSUBSCRIBE, text)
        if token is None:
            raise NotFound("delivery")
        return token.delivery_id

    async def _act(
        self, request: Asked, delivery_id: DeliveryId, scope: Scope, receive: Receive, send: Send
    ) -> None:
        body = await read_body(receive, MOST_BODY_BYTES)
        form = read_form(",".join(header_values(scope["headers"], b"content-type")), body) or {}
        one_click = form.get("List-Unsubscribe") == "One-Click"
        action = "unsubscribe" if one_click else form.get("action")
        if action not in ("unsubscribe", "resubscribe"):
            await say(send, request, 400, "bad")
            return
        if wait_s := self._changes.take(delivery_id).retry_after_s:
            await say(send, request, 429, "later", wait_s=wait_s)
            return
        if action == "resubscribe":
            found = await resubscribe(self._ctx, delivery_id, request.client)
        else:
            way = Way.ONE_CLICK if one_click else Way.PAGE
            found = await unsubscribe(self._ctx, delivery_id, way, request.client)
        log.info(action, delivery=delivery_id, one_click=one_click, standing=found.standing.value)
        # A mailbox provider that is told anything but 200 takes it for a failure and may try for days.
        await _show(send, request, found, changed=True, status=200 if one_click else None)


async def _show(
    send: Send,
    request: Asked,
    found: Subscription,
    *,
    changed: bool = False,
    status: int | None = None,
) -> None:
    """The page for how things stand. changed: this request made it so."""
    words = texts()[request.language]
    if found.standing is Standing.GONE:
        await say(send, request, status or 410, "gone")
        return
    filled = {"address": masked(found.recipient), "sender": found.sender}
    facts = [(words["address"], filled["address"]), (words["sender"], found.sender)]
    listed = " · ".join(one for one in (found.server_name, found.stream_name) if one)
    facts += [(words["list"], listed)] if listed else []
    button: Button | None = None
    if found.standing is Standing.UNSUBSCRIBED:
        name, shown = "done", ["done_text", "kept_text"]
        button = Button("resubscribe", words["undo_button"], question=words["undo_text"], second=True)
    elif found.standing is Standing.BLOCKED:
        name, shown = "blocked", ["blocked_text"]
    elif changed:
        name, shown = "back", ["back_text"]
    else:
        name, shown = "unsubscribe", ["unsubscribe_text"]
        button = Button("unsubscribe", words["unsubscribe_button"])
    document = page(
        request.language,
        words[f"{name}_title"],
        [words[one].format_map(filled) for one in shown],
        facts=facts,
        button=button,
    )
    await answer(send, status or 200, document, HTML, *headers(request.language))


def masked(address: str) -> str:
    """`a•••@example.net`: enough to know one's own, too little to learn another's from a forwarded mail."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1] if len(local) > 1 else ''}•••@{domain}"
