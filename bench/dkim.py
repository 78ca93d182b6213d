"""What a DKIM signature costs: time of one message of 10 KiB, beside composing it and beside dkimpy.

Relaxed/relaxed everywhere; wall and CPU time, medians of rounds that alternate. One row signs in two threads,
since OpenSSL lets go of the interpreter while it works on an RSA signature.

    python -m bench.dkim [--messages 300] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dkim as dkimpy
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postroom.mail.compose import compose
from postroom.mail.content import Content, Mailbox
from postroom.mail.dkim import Signer, sign
from postroom.mail.dkim_keys import Algorithm, PrivateKey, new_key

CONTENT = Content(
    Mailbox("ann@bench.test", "Ann"),
    (Mailbox("bob@example.org"),),
    subject="Grüße zum Messen",
    text="A line of words as they stand in mail, neither short nor long.\n" * 80,
    html="<p>A line of words as they stand in mail, neither short nor long.</p>\n" * 75,
)
AT_US = 1_763_733_600_000_000
DKIMPY_EVERY = 10  # it is that much slower


def _message() -> bytes:
    return compose(CONTENT, message_id="<1@bench.test>", date_us=AT_US)


def _with_dkimpy(message: bytes, key: PrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    dkimpy.sign(message, b"s", b"bench.test", pem, canonicalize=(b"relaxed", b"relaxed"))


def _ms(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Wall and CPU time of one, in milliseconds."""
    began, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    return _per(times, began, used)


def _ms_in_threads(work: Callable[[], object], times: int, pool: ThreadPoolExecutor) -> tuple[float, float]:
    began, used = time.perf_counter(), time.process_time()
    for done in [pool.submit(work) for _ in range(times)]:
        done.result()
    return _per(times, began, used)


def _per(times: int, began: float, used: float) -> tuple[float, float]:
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return wall / times * 1000, cpu / times * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    message = _message()
    keys = {one: new_key(one) for one in Algorithm}
    rsa, ed25519 = (Signer("bench.test", "s", one, key) for one, key in keys.items())

    def signs(*signers: Signer) -> Callable[[], object]:
        return lambda: sign(message, signers, at_us=AT_US)

    with ThreadPoolExecutor(2) as pool:
        times, few = args.messages, max(1, args.messages // DKIMPY_EVERY)
        measures: dict[str, Callable[[], tuple[float, float]]] = {
            "composing": lambda: _ms(_message, times),
            "RSA 2048": lambda: _ms(signs(rsa), times),
            "Ed25519": lambda: _ms(signs(ed25519), times),
            "both": lambda: _ms(signs(rsa, ed25519), times),
            "RSA 2048, two threads": lambda: _ms_in_threads(signs(rsa), times, pool),
            "dkimpy, RSA 2048": lambda: _ms(lambda: _with_dkimpy(message, keys[Algorithm.RSA]), few),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in measures}
        for _ in range(args.rounds):
            for name, measure in measures.items():
                found[name].append(measure())
    print(f"one message of {len(message):,} bytes, medians of {args.rounds} rounds")
    for name, values in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"  {name:<24} {wall:7.3f} ms, {cpu:7.3f} ms of CPU")


if __name__ == "__main__":
    main()
