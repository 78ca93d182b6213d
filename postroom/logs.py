"""Logging: one line per event to stderr, JSON or for people, from our code and the libraries' alike.

Our loggers are named by area (`logs.logger("engine")` is `postroom.engine`) and are structlog over the
standard library; what uvicorn, Litestar, aiosmtpd and asyncio log goes through the same formatter. Before
anything is written it is made plain and clean: values under secret-looking names become bullets, our keys,
Authorization values and URL passwords are masked inside texts, control characters are escaped (no forged
lines, no terminal tricks), long values are cut. Tracebacks show source lines, never the values of variables.

The cleaning is in force from the import on; `configure` adds where the lines go, how they look and from which
level.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LEVELS = ("debug", "info", "warning", "error")
BULLETS = "•" * 8
MOST_CHARACTERS = 8_000  # of one value; a traceback may have four times as many
TROUBLE_EVERY_S = 60.0
_MOST_ITEMS = 50
_MOST_DEPTH = 6

_SECRET_WORD = re.compile(
    "passwords?|passwd|passphrases?|pwd|secrets?|tokens?|keys?|apikeys?|authorization|credentials?|cookies?|"
    "signatures?|body|bodies|contents?|html|payloads?|plain|raw"
)
# A name that ends so tells about the secret without holding it: key_id, content_type, password_file.
_TELLING_WORD = re.compile(
    "ids?|kind|type|state|status|bytes|size|length|count|limit|name|file|path|hint|s|ms|us|at"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_MASKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<![A-Za-z0-9])(pr[as]_)[a-z0-9]{8,64}", re.IGNORECASE), rf"\1{BULLETS}"),
    (
        re.compile(
            r"\b(Bearer|Basic|AUTH PLAIN|AUTH LOGIN)(\s{1,4})[A-Za-z0-9._~+/=-]{6,4096}", re.IGNORECASE
        ),
        rf"\1\2{BULLETS}",
    ),
    (re.compile(r"(://[^\s/@:]{0,256}:)[^\s/@]{1,256}@"), rf"\1{BULLETS}@"),
)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_OF_TEXT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_OURS = frozenset(("event", "exception", "stack", "level", "logger", "timestamp", "exc_info", "stack_info"))

# At debug these print credentials or mail: aiosmtpd what an AUTH returned, asyncio and the SQL engine values.
_NEVER_BELOW_WARNING = (
    "mail.log",
    "mail.debug",
    "asyncio",
    "sqlalchemy",
    "uvicorn.access",
    "uvicorn.asgi",
    "alembic",
)
_LIBRARIES = ("uvicorn", "uvicorn.error", "litestar", "py.warnings", *_NEVER_BELOW_WARNING)


def logger(area: str) -> FilteringBoundLogger:
    """The logger of one area: the package's name, such as `engine` or `inbound`."""
    return cast(FilteringBoundLogger, structlog.get_logger(f"postroom.{area}"))


class Trouble:
    """A trouble that comes back at every try: a line when it begins, one a minute while it lasts, one at
    its end. A disk that is full must not be filled with lines about it."""

    def __init__(self, log: FilteringBoundLogger, *, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._log, self._steady_s = log, steady_s
        self._told_s: float | None = None
        self._untold = 0

    def met(self, event: str, **facts: object) -> None:
        """It is there, once more."""
        now_s = self._steady_s()
        if self._told_s is not None and now_s - self._told_s < TROUBLE_EVERY_S:
            self._untold += 1
            return
        self._told_s = now_s
        again, self._untold = ({"not_told": self._untold} if self._untold else {}), 0
        self._log.error(event, **facts, **again)

    def over(self, event: str) -> None:
        """It is not there; told only if it was."""
        if self._told_s is not None:
            self._log.warning(event, **({"not_told": self._untold} if self._untold else {}))
            self._told_s, self._untold = None, 0


def configure(level: str = "info", json: bool = False, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (default: stderr) from `level` on; may be called again.

    level: one of LEVELS, else ValueError. json: one JSON object a line; otherwise columns for people.
    """
    if level not in LEVELS:
        raise ValueError(f"{level!r} is not a log level; write one of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    stream = stream or sys.stderr
    renderer: Processor
    if json:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_CLEANING,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # A line that cannot be written (stderr closed) must not be printed raw by the handler's own complaint.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(number, logging.WARNING) if name in _NEVER_BELOW_WARNING else logging.NOTSET)
    logging.captureWarnings(True)


def wants_json(log_format: str, stream: TextIO | None = None) -> bool:
    """What the setting `log_format` means here: `auto` is for people on a terminal, JSON anywhere else."""
    return log_format == "json" or (log_format == "auto" and not (stream or sys.stderr).isatty())


def redact(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """A structlog processor: the event with plain, bounded, clean values and without secrets."""
    clean: dict[str, object] = {}
    for name, value in event_dict.items():
        if name in ("exception", "stack"):
            clean[name] = _text(str(value), _CONTROLS_OF_TEXT, 4 * MOST_CHARACTERS)
        elif name.startswith("_"):  # structlog's own, taken out before rendering
            clean[name] = value
        else:
            _put(clean, name, value, 0)
    return clean


def _put(into: dict[str, object], name: object, value: object, depth: int) -> None:
    shown = _text(str(name), _CONTROLS, 200)
    hidden = value is not None and not isinstance(value, bool) and shown not in _OURS and _is_secret(shown)
    into[shown] = BULLETS if hidden else _plain(value, depth)


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    return any(map(_SECRET_WORD.fullmatch, words)) and not _TELLING_WORD.fullmatch(words[-1])


def _plain(value: object, depth: int) -> object:
    """`value` as what JSON has, at most `_MOST_DEPTH` deep and `_MOST_ITEMS` wide."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(str(value), _CONTROLS, MOST_CHARACTERS)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth == _MOST_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            mapped: dict[str, object] = {}
            for name, inner in list(value.items())[:_MOST_ITEMS]:
                _put(mapped, name, inner, depth + 1)
            return mapped
        return [_plain(inner, depth + 1) for inner in list(value)[:_MOST_ITEMS]]
    try:
        shown = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception as error:  # a broken repr must not take the line with it
        shown = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return _text(shown, _CONTROLS, MOST_CHARACTERS)


def _text(text: str, controls: re.Pattern[str], most: int) -> str:
    cut = text[: most + 5_000]  # more than any mask reads, so that none is cut short of what it would hide
    for pattern, mask in _MASKS:
        cut = pattern.sub(mask, cut)
    if len(text) > most:
        cut = f"{cut[:most]}… ({len(text)} characters)"
    cut = controls.sub(lambda found: found[0].encode("unicode_escape").decode(), cut)
    return cut.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no UTF-8


_CLEANING: list[Processor] = [
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    redact,
]

structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        *_CLEANING,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=False,
)
