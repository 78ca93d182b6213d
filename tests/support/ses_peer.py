"""Amazon SES as far as sending needs it, which takes nothing that is not signed rightly.

The signature is computed anew by botocore from what arrived, with the key only this module and the test know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.http_peer import Asked, Exchange, HttpPeer, Play, says

ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-1"
ACCOUNT: Mapping[str, Any] = {
    "SendingEnabled": True,
    "ProductionAccessEnabled": True,
    "EnforcementStatus": "HEALTHY",
    "SendQuota": {"Max24HourSend": 50_000.0, "SentLast24Hours": 120.0, "MaxSendRate": 14.0},
}


def error(status: int, kind: str, message: str) -> Play:
    """A refusal in SES's own words."""
    headers = f"x-amzn-ErrorType: {kind}:http://internal.amazon.com/\r\n"
    return says(status, {"message": message}, headers)


def is_signed(asked: Asked) -> bool:
    """Whether botocore, with our key, comes to the signature this request carries."""
    scheme, _, rest = asked.headers["authorization"].partition(" ")
    fields = dict(one.strip().split("=", 1) for one in rest.split(","))
    names = fields["SignedHeaders"].split(";")
    assert scheme == "AWS4-HMAC-SHA256"
    assert {"host", "x-amz-date"} <= set(names)
    url = f"http://{asked.headers['host']}{asked.target}"
    kept = {name: asked.headers[name] for name in names if name != "host"}
    request = AWSRequest(asked.method, url, headers=kept, data=asked.body)
    request.context["timestamp"] = asked.headers["x-amz-date"]
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "ses", REGION)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return bool(signature == fields["Signature"])


async def ses(exchange: Exchange) -> None:
    """Takes whatever is signed."""
    asked = await exchange.request()
    if not is_signed(asked):
        await exchange.reply(
            403,
            {"message": "The request signature we calculated does not match the signature you provided."},
            "x-amzn-ErrorType: InvalidSignatureException\r\n",
        )
    elif asked.target == "/v2/email/account":
        await exchange.reply(200, dict(ACCOUNT))
    else:
        assert (asked.method, asked.target) == ("POST", "/v2/email/outbound-emails")
        await exchange.reply(200, {"MessageId": f"0102-{len(exchange._peer.asked)}"})


def ses_peer() -> HttpPeer:
    """One on a free port."""
    return HttpPeer(ses)
