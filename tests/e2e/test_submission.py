"""A program's own mail library, through `serve`, to the test inbox."""

from __future__ import annotations

import re
import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest

from postroom.inbound.tls import server_tls
from tests.support.serve import Serve, answer, serving, wait_for


def letter(sender: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = "ann@example.net"
    message["Subject"] = "By SMTP ✉"
    message.set_content("It is on its way.\n.and a dot")
    return message


def smtp_port(serve: Serve, words: str = "send by SMTP on") -> int:
    line = next(line for line in serve.lines if words in line)
    return int(re.findall(r"127\.0\.0\.1:(\d+)", line)[0])


@pytest.mark.parametrize("wire", ["clear on loopback", "STARTTLS", "SMTP_SSL"])
def test_smtplib_sends_to_the_inbox(tmp_path: Path, wire: str) -> None:
    pair = server_tls(tmp_path, "localhost")
    settings = {
        "POSTROOM_SMTP_TLS_CERT": str(pair.certificate),
        "POSTROOM_SMTP_TLS_KEY": str(pair.certificate.with_name("key.pem")),
    }
    environment = settings if wire == "STARTTLS" else {}
    flags = ["--inbox", "127.0.0.1:0", *(["--smtps", "127.0.0.1:0"] if wire == "SMTP_SSL" else [])]
    with serving(tmp_path / "data", *flags, environment=environment) as serve:
        made = serve.answer("bootstrap")
        sender = answer("server", "show", "1", data=serve.data)["default_sender"]
        host, port = next(line for line in serve.lines if "test inbox" in line).split(" on ")[1].split(":")
        fields = {"label": "inbox", "host": host, "port": port.split(";")[0], "for_transactional": True}
        serve.ask("connection.create", server=made["server_id"], fields=fields)
        own = serve.data / "tls" / "certificate.pem"  # made where no other was given
        trusted = ssl.create_default_context(cafile=str(own if wire == "SMTP_SSL" else pair.certificate))
        if wire == "SMTP_SSL":
            secure = smtp_port(serve, "TLS from the first byte")
            connected: smtplib.SMTP = smtplib.SMTP_SSL("localhost", secure, context=trusted, timeout=10)
        else:
            connected = smtplib.SMTP("localhost", smtp_port(serve), timeout=10)
        with connected as client:
            client.ehlo()
            assert client.has_extn("starttls") == (wire == "STARTTLS")
            if wire == "STARTTLS":
                client.starttls(context=trusted)
            client.login(made["server_key"], made["server_key"])
            client.send_message(letter(sender))
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.send_message(letter("ceo@elsewhere.example"))
            assert refused.value.smtp_code == 550
        mails = wait_for(lambda: serve.answer("inbox", "list")["data"], "the mail in the inbox")
        assert [one["subject"] for one in mails] == ["By SMTP ✉"]
        told = serve.ask("explain", message="1")
        assert (told["origin"], told["deliveries"][0]["state"]) == ("smtp", "sent")
