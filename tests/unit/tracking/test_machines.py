"""Who is taken for a machine (K7), and who is not."""

from __future__ import annotations

import pytest

from postroom.tracking.machines import machine

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0"


def said(method: str = "GET", **headers: str) -> str:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    agent = fields.pop("user-agent", CHROME)
    return machine(method, lambda name: [fields[name]] if name in fields else [], agent)


@pytest.mark.parametrize(
    "agent",
    [
        CHROME,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0",
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17928; Pro)",
    ],
)
def test_people_and_their_proxies(agent: str) -> None:
    assert said(user_agent=agent) == ""


@pytest.mark.parametrize(
    ("expected", "method", "headers"),
    [
        ("head", "HEAD", {}),
        ("prefetch", "GET", {"sec_purpose": "prefetch;prerender"}),
        ("prefetch", "GET", {"purpose": "prefetch"}),
        ("prefetch", "GET", {"x_purpose": "preview"}),
        ("prefetch", "GET", {"x_moz": "Prefetch"}),
        ("agent", "GET", {"user_agent": ""}),
        ("agent", "GET", {"user_agent": " "}),
        ("agent", "GET", {"user_agent": "Mozilla/5.0"}),
        (
            "agent",
            "GET",
            {"user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
        ),
        ("agent", "GET", {"user_agent": "python-requests/2.32"}),
        ("agent", "GET", {"user_agent": "curl/8.5.0"}),
        ("agent", "GET", {"user_agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}),
        ("agent", "GET", {"user_agent": "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/131.0"}),
        ("agent", "GET", {"user_agent": "BarracudaCentral/1.0"}),
    ],
)
def test_k7_machines(expected: str, method: str, headers: dict[str, str]) -> None:
    assert said(method, **headers) == expected
