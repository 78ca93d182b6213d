"""A Django site with nothing in it but post_office; settings and commands in one file, run in `.venv/bench`.

python -m bench.peers.post_office_site migrate | feed MESSAGES | send
"""

from __future__ import annotations

import json
import os
import sys
import time

from bench.peers.interface import BODY, SENDER

SECRET_KEY = "bench"  # of a site that lives for seconds and serves nobody
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "post_office"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BENCH_DATABASE", ":memory:"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 60,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
        },
    }
}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ.get("BENCH_PORT", "25"))
POST_OFFICE = {
    "BATCH_SIZE": 1000,
    "LOG_LEVEL": 0,
    "THREADS_PER_PROCESS": 10,
    "CELERY_ENABLED": False,
    "DEFAULT_PRIORITY": "medium",
}


def feed(messages: int) -> None:
    """Store so many messages, 100 in a batch."""
    from post_office import mail

    began = time.perf_counter()
    for start in range(0, messages, 100):
        mail.send_many(
            [
                {
                    "sender": SENDER,
                    "recipients": [f"r{number}@example.net"],
                    "subject": "Bench",
                    "message": BODY,
                }
                for number in range(start, min(start + 100, messages))
            ]
        )
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began}) + "\n")


def main(arguments: list[str]) -> None:
    """One command."""
    import django
    from django.core.management import call_command

    django.setup()
    if arguments[0] == "feed":
        feed(int(arguments[1]))
    elif arguments[0] == "send":
        call_command("send_queued_mail", processes=2, log_level=0)
    else:
        call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main(sys.argv[1:])
