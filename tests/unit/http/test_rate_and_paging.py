"""The window of requests, and lists cut into pages."""

from __future__ import annotations

import pytest

from postroom.clock import MICROS
from postroom.http.paging import MOST_OFFSET, Page, page_of, parse_query
from postroom.http.rate import RateLimiter, limiter
from tests.support.clock import START_US, FakeClock


def test_no_more_than_the_limit_in_any_minute() -> None:
    clock = FakeClock()
    limits = RateLimiter(clock, 5)
    taken: list[float] = []
    for _ in range(400):
        allowance = limits.take(1)
        if not allowance.retry_after_s:
            taken.append(clock.steady_s())
        clock.advance(0.7)
    assert all(later - earlier > 59 for earlier, later in zip(taken, taken[5:], strict=False))
    assert len(taken) >= 20  # and the room is used


def test_waiting_as_told_is_enough_and_one_second_less_is_not() -> None:
    clock = FakeClock()
    limits = RateLimiter(clock, 2)
    first = limits.take(1)
    assert (first.limit, first.remaining, first.retry_after_s) == (2, 1, 0)
    assert first.reset_unix == START_US // MICROS + 60
    clock.advance(10)
    assert limits.take(1).remaining == 0
    wait_s = limits.take(1).retry_after_s
    assert wait_s == 50
    clock.advance(wait_s - 1)
    assert limits.take(1).retry_after_s == 1
    clock.advance(1)
    assert limits.take(1).retry_after_s == 0


def test_a_refused_request_does_not_count_and_keys_are_apart() -> None:
    clock = FakeClock()
    limits = RateLimiter(clock, 1)
    assert limits.take(1).retry_after_s == 0
    for _ in range(10):
        assert limits.take(1).retry_after_s > 0
    assert limits.take(2).retry_after_s == 0
    clock.advance(60)
    assert limits.take(1).retry_after_s == 0


def test_a_stepped_wall_clock_frees_nothing() -> None:
    clock = FakeClock()
    limits = RateLimiter(clock, 1)
    limits.take(1)
    clock.step(3600)
    assert limits.take(1).retry_after_s == 60


@pytest.mark.parametrize(("setting", "limit"), [(None, 120), (7, 7), (0, None)])
def test_the_setting_replaces_the_documented_figure(setting: int | None, limit: int | None) -> None:
    made = limiter(FakeClock(), setting, 120)
    assert (None if made is None else made.take(1).limit) == limit


@pytest.mark.parametrize(
    ("query", "page"),
    [
        (b"", Page(25, 0)),
        (b"limit=10&offset=20", Page(10, 20)),
        (b"limit=0&offset=0", Page(25, 0)),
        (b"limit=-1&offset=-1", Page(25, 0)),
        (b"limit=1e9&offset=1.5", Page(25, 0)),
        (b"limit=1000000000", Page(250, 0)),
        (b"limit=%D9%A3&offset=null", Page(25, 0)),
        (b"limit=5&limit=6", Page(6, 0)),
        (b"limit=&offset=", Page(25, 0)),
        (b"limit=%2010%20", Page(10, 0)),
        (b"limit=" + b"9" * 500 + b"&offset=" + b"9" * 5000, Page(250, MOST_OFFSET)),
        (b"&".join([b"limit=5"] * 1000), Page(25, 0)),
        (b"\xff=\xff&limit=5", Page(5, 0)),
    ],
)
def test_w14_pages_are_read_leniently(query: bytes, page: Page) -> None:
    assert page_of(parse_query(query)) == page
