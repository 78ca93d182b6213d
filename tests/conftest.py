"""What holds for every test: which database it runs on; asserts in helpers say what they compared."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support import stores
from tests.support.stores import Kind

pytest.register_assert_rewrite("tests.delivery.faults.play", "tests.support.fault_bench")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--on",
        choices=list(Kind),
        default=Kind.SQLITE,
        help="the database of the tests that do not choose one",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "database(*kinds): those a test runs on; see tests.support.stores")
    # A shell starts what is put into the background deaf to Ctrl-C, and so would be all that tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as processors: most of the time of most tests is waiting for a server or a disk."""
    return 2 * (os.cpu_count() or 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = metafunc.definition.get_closest_marker("database")
    if chosen is not None:
        metafunc.parametrize("database", chosen.args, indirect=True)


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Which one this test runs on; see tests.support.stores."""
    with stores.on(Kind(getattr(request, "param", request.config.getoption("--on")))) as kind:
        yield kind
