"""A link in mail, from the command that sends it to the page it opens: the real `serve`, as people run it."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

from postroom.inbound.inbox_folder import list_mails, read_mail
from tests.support.serve import Serve, wait_for


def open_page(url: str, body: bytes | None = None) -> tuple[int, str]:
    """GET, or with a body POST -> (status, text)."""
    request = urllib.request.Request(url, data=body, headers={"Accept-Language": "de"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answered:
            return answered.status, answered.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_reader_leaves_a_list(live: Serve) -> None:
    live.ask("bootstrap")
    found = re.search(r"inbox takes SMTP on (\S+):(\d+)", live.text)
    assert found is not None
    fields = {"label": "out", "host": found[1], "port": found[2], "for_broadcast": True}
    live.ask("connection.create", fields=fields, server=1)

    def send() -> str:
        made = live.ask(
            "message.send", to=["ann@example.net"], subject="News", text="Words.", purpose="broadcast"
        )

        def state() -> str | None:
            (delivery,) = live.ask("message.show", message=str(made["message_id"]))["deliveries"]
            return delivery["state"] if delivery["state"] not in ("ready", "claimed") else None

        ended: str = wait_for(state, "the delivery ends")
        return ended

    assert send() == "sent"
    (mail,) = list_mails(live.data / "inbox", 10)
    text = read_mail(live.data / "inbox", mail.number).decode()
    header = re.search(r"^List-Unsubscribe: <(\S+)>\r?$", text, re.MULTILINE)
    assert header is not None
    link = header[1]
    assert link.startswith(f"{live.url}/u/")
    assert f"Unsubscribe from these emails: {link}" in text

    status, page = open_page(link)
    assert status == 200
    assert '<html lang="de">' in page
    assert "a•••@example.net" in page
    assert open_page(link, b"nonsense")[0] == 400
    assert send() == "sent"
    assert open_page(link, b"List-Unsubscribe=One-Click")[0] == 200
    assert send() == "suppressed"
    status, page = open_page(link, b"action=resubscribe")
    assert (status, "Sie sind angemeldet" in page) == (200, True)
    assert send() == "sent"
    token = link.rpartition("/")[2]
    assert open_page(f"{live.url}/u/{token[:-1]}")[0] == 404
    assert token not in live.log.read_text()
