"""From an error of our tree to a dialect's answer: its table decides, and no error goes without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from litestar.exceptions import HTTPException

from postroom.errors import Limited, PostroomError, Unavailable
from postroom.http.calls import Told
from postroom.logs import logger

log = logger("http")

Rows = Mapping[type[PostroomError], tuple[int, Callable[[PostroomError], str]]]
"""For each class of our errors, or one it derives from: a status and how it is said."""

_ROUTING = (400, 404, 405)


def tell(
    error: Exception,
    rows: Rows,
    unexpected: str,
    routing: Mapping[int, str],
    body: Callable[[Exception, int, str], Mapping[str, object]],
) -> Told:
    """The answer to an error. What nobody foresaw is logged with its traceback and not shown.

    rows: has PostroomError itself. unexpected: the text of a 500. routing: texts of 400, 404 and 405 where
    no call was found. body: the product's shape, from the error, its status and its text.
    """
    if isinstance(error, HTTPException) and error.status_code in _ROUTING:
        status = error.status_code
        return Told(status, body(error, status, routing[status]), dict(error.headers or {}))
    for kind in type(error).__mro__:
        if kind in rows:
            status, text = rows[kind]
            headers: dict[str, str] = {}
            if isinstance(error, Limited | Unavailable):
                headers["Retry-After"] = str(error.retry_after_s)
            elif status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            if status == 500:
                log.error("an error without an answer", exc_info=error)
            return Told(status, body(error, status, text(error)), headers)  # type: ignore[arg-type]  # it is of `kind`
    log.error("a request failed", exc_info=error)
    return Told(500, body(error, 500, unexpected), {})
