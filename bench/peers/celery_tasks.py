"""The Celery application, run in `.venv/bench`.

python -m bench.peers.celery_tasks work | ready | feed MESSAGES
"""

from __future__ import annotations

import json
import os
import smtplib
import sys
import time
from email.message import EmailMessage

from celery import Celery

from bench.peers.interface import BODY, SENDER

app = Celery("bench", broker=os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=50,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    # What a dead worker held comes back after this; an hour as shipped.
    broker_transport_options={"visibility_timeout": 20},
)
_session: smtplib.SMTP | None = None


@app.task(name="bench.deliver")  # type: ignore[untyped-decorator]  # Celery has no types
def deliver(number: int, body: str) -> None:
    """One message, through this process's open session."""
    global _session
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, f"r{number}@example.net", "Bench"
    message.set_content(body)
    if _session is None:
        _session = smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_PORT"]))
    _session.send_message(message)


def main(arguments: list[str]) -> None:
    """One command."""
    if arguments[0] == "work":
        app.worker_main(["worker", "--pool", "prefork", "--concurrency", "8", "--loglevel", "critical"])
    elif arguments[0] == "ready":
        while not app.control.ping(timeout=0.5):
            pass
    else:
        began = time.perf_counter()
        with app.producer_pool.acquire(block=True) as producer:
            for number in range(int(arguments[1])):
                deliver.apply_async((number, BODY), producer=producer)
        sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began}) + "\n")


if __name__ == "__main__":
    from bench.peers import celery_tasks  # as its own module, so that the worker finds the task by its name

    celery_tasks.main(sys.argv[1:])
