"""What tracking costs: finding links once a message, and tokens, links and pixel for each recipient.

    python -m bench.tracking [--links 30] [--kilobytes 20] [--recipients 400]

One newsletter in HTML and text. Prints one JSON line, in microseconds of CPU, medians of rounds: `find` once
when a message is accepted, `compose` once without tracking; then for each recipient `unsubscribe` (one
token), `tracked` (a token for each link and the pixel as well), `tokens` as a part of that, and `anew`: the
same tracked copies if each were rewritten and composed by itself. `first` and `second`: the tracked copies
that are composed, and cut into a template.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable

from postroom.engine.copies import Copies
from postroom.ids import DeliveryId
from postroom.mail.compose import compose
from postroom.mail.content import Content, Mailbox, TrackLinks
from postroom.mail.links import find_links
from postroom.mail.unsubscribe import Offer
from postroom.tracking.links import PATHS, MailLinks
from postroom.tracking.marking import Marking
from postroom.tracking.tokens import SigningKeys

_LINKS = MailLinks([SigningKeys(kind, 1, {1: bytes(32)}) for kind in PATHS], "https://mail.example.com")
_ROUNDS = 7


def newsletter(links: int, size_bytes: int) -> tuple[str, str]:
    """HTML and text, each with as many links."""
    urls = [f"https://shop.example/item/{number}?utm_source=news&utm_campaign=42" for number in range(links)]
    filler = "".join(
        '<td class="c" style="padding:4px 8px">Grüße aus dem Laden</td>'
        for _ in range(size_bytes // links // 64)
    )
    rows = [f'<tr>{filler}<td><a href="{one.replace("&", "&amp;")}">Look</a></td></tr>' for one in urls]
    document = f"<!doctype html><html lang=en><body><table>{''.join(rows)}</table></body></html>"
    return document, "\n".join(f"Look: {one}" for one in urls)


def composed(content: Content) -> bytes:
    """As the engine does it."""
    return compose(content, message_id="<m@shop.example>", date_us=0)


def spent_us(work: Callable[[], object]) -> float:
    """Microseconds of CPU."""
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1000


def measure(links: int, size_bytes: int, recipients: int) -> dict[str, float]:
    """One round."""
    document, text = newsletter(links, size_bytes)
    plain = Content(Mailbox("a@shop.example"), (Mailbox("b@example.net"),), html=document, text=text)
    found = find_links(document, text, TrackLinks.HTML_AND_TEXT)
    tracked = Content(
        plain.sender,
        plain.to,
        html=document,
        text=text,
        track_opens=True,
        html_links=found.html,
        text_links=found.text,
    )
    people = [DeliveryId(number) for number in range(1, recipients + 1)]

    def each(marking: Marking, copies: Copies, some: Iterable[DeliveryId]) -> None:
        for one in some:
            copies.copy(marking.words(one))

    costs = {"find": spent_us(lambda: find_links(document, text, TrackLinks.HTML_AND_TEXT))}
    costs["compose"] = spent_us(lambda: composed(plain))
    for name, content in (("unsubscribe", plain), ("tracked", tracked)):
        marking = Marking(content, 7, Offer(), _LINKS)
        copies = Copies(marking.content, composed)
        first = spent_us(lambda marking=marking, copies=copies: each(marking, copies, people[:1]))  # type: ignore[misc]  # mypy cannot infer it
        second = spent_us(lambda marking=marking, copies=copies: each(marking, copies, people[1:2]))  # type: ignore[misc]
        rest = spent_us(lambda marking=marking, copies=copies: each(marking, copies, people[2:]))  # type: ignore[misc]
        costs[name] = rest / (recipients - 2)
        if name == "tracked":
            costs |= {"first": first, "second": second}
    few = people[:20]
    costs["anew"] = spent_us(lambda: [composed(marking.content(marking.words(one))) for one in few]) / len(
        few
    )
    costs["tokens"] = spent_us(lambda: [marking.words(one) for one in people]) / recipients
    return costs


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=30)
    parser.add_argument("--kilobytes", type=int, default=20)
    parser.add_argument("--recipients", type=int, default=400)
    args = parser.parse_args()
    rounds = [measure(args.links, args.kilobytes << 10, args.recipients) for _ in range(_ROUNDS)]
    told = {name: round(statistics.median(one[name] for one in rounds)) for name in rounds[0]}
    print(json.dumps({"links": args.links, "kilobytes": args.kilobytes, "us": told}))


if __name__ == "__main__":
    main()
