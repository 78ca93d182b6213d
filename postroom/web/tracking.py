"""What tracked mail leads to: the pixel below `/o`, and below `/c` the way on to where a link led.

Both are answered at once and noted for later (`tracking.hits`); the pixel asks no database. A link goes to
the target that was stored with its message and nowhere else: nothing of the request's address but the token
is read, so it is no open redirect. No cookie is set, nothing may be cached, and the next site is not told
where its reader came from.
"""

from __future__ import annotations

from collections import OrderedDict

from postroom.actions.context import Context
from postroom.actions.hits import MOST_TEXT, Hit, target
from postroom.errors import NotFound, PostroomError, Unavailable
from postroom.http.asgi import Receive, Scope, Send, answer, header_values
from postroom.http.rate import RateLimiter
from postroom.logs import logger
from postroom.mail.link_target import location_of
from postroom.tracking.hits import Hits
from postroom.tracking.links import CLICK_PATH, OPEN_PATH, MailLinks
from postroom.tracking.machines import machine
from postroom.tracking.marking import target_and_part
from postroom.tracking.tokens import Token, TokenKind
from postroom.web.asked import WRONG_PER_MINUTE, Asked, guesser_of, say

log = logger("web")
PATHS = (CLICK_PATH, OPEN_PATH)
_PIXEL = bytes.fromhex(  # a GIF of one transparent dot
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
_HEADERS = (
    (b"cache-control", b"no-store, max-age=0"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex, nofollow"),
)
_MOST_REMEMBERED = 1_000  # targets


class TrackingPages:
    """The application below `/o` and `/c`."""

    def __init__(self, ctx: Context, links: MailLinks, hits: Hits) -> None:
        self._ctx, self._links, self._hits = ctx, links, hits
        self._wrong = RateLimiter(ctx.clock, WRONG_PER_MINUTE)
        self._targets: OrderedDict[tuple[int, int], str] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = TokenKind.OPEN if scope["path"].startswith(OPEN_PATH) else TokenKind.CLICK
        asked = Asked.of(scope, OPEN_PATH if kind is TokenKind.OPEN else CLICK_PATH)
        try:
            await self._answer(kind, asked, scope, send)
        except Unavailable as error:
            await say(send, asked, 503, "later", wait_s=error.retry_after_s)
        except PostroomError:
            await say(send, asked, 404, "missing")
        except Exception as error:
            # Not with its values: the path holds the token.
            log.error("a tracked link could not be answered", exc_info=error)
            await say(send, asked, 500, "later")

    async def _answer(self, kind: TokenKind, asked: Asked, scope: Scope, send: Send) -> None:
        if asked.method not in ("GET", "HEAD"):
            await say(send, asked, 405, "bad", (b"allow", b"GET, HEAD"))
            return
        guesser = guesser_of(asked.client)
        if guesser and (wait_s := self._wrong.wait_s(guesser)):
            await say(send, asked, 429, "later", wait_s=wait_s)
            return
        token = self._links.read(kind, asked.token)
        if token is None:
            if guesser:
                self._wrong.take(guesser)
            raise NotFound("link")
        if kind is TokenKind.OPEN:
            self._note(token, None, asked, scope)
            await answer(send, 200, _PIXEL, b"image/gif", *_HEADERS)
            return
        number, _ = target_and_part(token.link)
        location = await self._location(token.content_id, number)
        self._note(token, number, asked, scope)
        to = (b"location", location.encode("ascii"))
        await answer(send, 302, b"", b"text/plain; charset=utf-8", to, *_HEADERS)

    async def _location(self, content_id: int, number: int) -> str:
        """Where it goes. What was looked up is remembered: programs follow one link many times."""
        known = self._targets.get((content_id, number))
        if known is None:
            known = location_of(await target(self._ctx, content_id, number))
            if known is None:  # by rules that were other ones when it was stored
                raise NotFound("link")
            self._targets[content_id, number] = known
            if len(self._targets) > _MOST_REMEMBERED:
                self._targets.popitem(last=False)
        return known

    def _note(self, token: Token, number: int | None, asked: Asked, scope: Scope) -> None:
        def header(name: str) -> list[str]:
            return header_values(scope["headers"], name.encode("ascii"))

        agent = " ".join(header("user-agent"))
        self._hits.note(
            Hit(
                token.delivery_id,
                number,
                self._ctx.clock.now_us(),
                user_agent=agent[:MOST_TEXT],
                source=asked.client,
                machine=machine(asked.method, header, agent[:MOST_TEXT]),
                in_text=number is not None and target_and_part(token.link)[1],
            )
        )
