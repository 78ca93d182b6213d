"""The requests of the documentation of servers, as it prints them for curl, with our host and token.

What comes back has the names the printed answers have, in their order, with values of the same types.
"""

from __future__ import annotations

import json
from typing import Any

from tests.dialects.postmark.conftest import Postmark
from tests.support.curl import read_curl

HOST, TOKEN, NUMBER = "https://api.postmarkapp.com", "account token", "{serverid}"
GET = r"""curl "https://api.postmarkapp.com/servers/{serverid}" \
  -X GET \
  -H "Accept: application/json" \
  -H "X-Postmark-Account-Token: account token"
"""
CREATE_LINE = r"""curl "https://api.postmarkapp.com/servers" \
  -X POST \
  -H "Accept: application/json" \
  -H "Content-Type: application/json" \
  -H "X-Postmark-Account-Token: account token" \
  -d '{
  "Name": "Production",
  "Color": "Purple"
}'
"""
EDIT_LINE = r"""curl "https://api.postmarkapp.com/servers/{serverid}" \
  -X PUT \
  -H "Accept: application/json" \
  -H "Content-Type: application/json" \
  -H "X-Postmark-Account-Token: account token" \
  -d '{
  "Name": "Production 2",
  "Color": "Blue"
}'
"""
LIST = r"""curl "https://api.postmarkapp.com/servers?count=50&offset=0" \
  -X GET \
  -H "Accept: application/json" \
  -H "X-Postmark-Account-Token: account token"
"""
DELETE = r"""curl "https://api.postmarkapp.com/servers/{serverid}" \
  -X DELETE \
  -H "Accept: application/json" \
  -H "X-Postmark-Account-Token: account token"
"""

CREATE: dict[str, Any] = json.loads("""{
  "Name": "Staging Testing",
  "Color": "red",
  "SmtpApiActivated": true,
  "RawEmailEnabled": false,
  "DeliveryType": "Live",
  "InboundHookUrl": "http://hooks.example.com/inbound",
  "BounceHookUrl": "http://hooks.example.com/bounce",
  "OpenHookUrl": "http://hooks.example.com/open",
  "DeliveryHookUrl": "http://hooks.example.com/delivery",
  "PostFirstOpenOnly": false,
  "InboundDomain": "",
  "InboundSpamThreshold": 5,
  "TrackOpens": false,
  "TrackLinks": "None",
  "IncludeBounceContentInHook": true,
  "ClickHookUrl": "http://hooks.example.com/click",
  "EnableSmtpApiErrorHooks": false
}""")
EDIT: dict[str, Any] = json.loads("""{
  "Name": "Production 2",
  "Color": "blue",
  "SmtpApiActivated": false,
  "RawEmailEnabled": false,
  "InboundHookUrl": "http://hooks.example.com/inbound",
  "BounceHookUrl": "http://hooks.example.com/bounce",
  "OpenHookUrl": "http://hooks.example.com/open",
  "DeliveryHookUrl": "http://hooks.example.com/delivery",
  "PostFirstOpenOnly": false,
  "InboundDomain": "",
  "InboundSpamThreshold": 0,
  "TrackOpens": false,
  "TrackLinks": "None",
  "IncludeBounceContentInHook": true,
  "ClickHookUrl": "http://hooks.example.com/click",
  "EnableSmtpApiErrorHooks": false
}""")
# Printed answers: of getting and creating a server, of changing it, of the list, of deleting it.
SERVER: dict[str, Any] = json.loads("""{
  "ID": 1,
  "Name": "Staging Testing",
  "ApiTokens": [
    "server token"
  ],
  "Color": "red",
  "SmtpApiActivated": true,
  "RawEmailEnabled": false,
  "DeliveryType": "Live",
  "ServerLink": "https://postmarkapp.com/servers/1/streams",
  "InboundAddress": "yourhash@inbound.postmarkapp.com",
  "InboundHookUrl": "http://hooks.example.com/inbound",
  "BounceHookUrl": "http://hooks.example.com/bounce",
  "OpenHookUrl": "http://hooks.example.com/open",
  "DeliveryHookUrl": "http://hooks.example.com/delivery",
  "PostFirstOpenOnly": false,
  "InboundDomain": "",
  "InboundHash": "yourhash",
  "InboundSpamThreshold": 0,
  "TrackOpens": false,
  "TrackLinks": "None",
  "IncludeBounceContentInHook": true,
  "ClickHookUrl": "http://hooks.example.com/click",
  "EnableSmtpApiErrorHooks": false
}""")
EDITED: dict[str, Any] = json.loads("""{
  "ID": 1,
  "Name": "Production Testing",
  "ApiTokens": [
    "Server Token"
  ],
  "Color": "blue",
  "SmtpApiActivated": false,
  "RawEmailEnabled": false,
  "DeliveryType": "Live",
  "ServerLink": "https://postmarkapp.com/servers/1/streams",
  "InboundAddress": "yourhash@inbound.postmarkapp.com",
  "InboundHookUrl": "http://hooks.example.com/inbound",
  "BounceHookUrl": "http://hooks.example.com/bounce",
  "OpenHookUrl": "http://hooks.example.com/open",
  "DeliveryHookUrl": "http://hooks.example.com/delivery",
  "PostFirstOpenOnly": false,
  "InboundDomain": "",
  "InboundHash": "yourhash",
  "InboundSpamThreshold": 0,
  "TrackOpens": false,
  "TrackLinks": "None",
  "IncludeBounceContentInHook": true,
  "ClickHookUrl": "http://hooks.example.com/click",
  "EnableSmtpApiErrorHooks": false
}""")
LISTED: dict[str, Any] = json.loads("""{
  "TotalCount": 2,
  "Servers": [
    {
      "ID": 1,
      "Name": "Production01",
      "ApiTokens": [
        "server token"
      ],
      "Color": "red",
      "SmtpApiActivated": true,
      "RawEmailEnabled": false,
      "DeliveryType": "Live",
      "ServerLink": "https://postmarkapp.com/servers/1/streams",
      "InboundAddress": "yourhash@inbound.postmarkapp.com",
      "InboundHookUrl": "http://inboundhook.example.com/inbound",
      "BounceHookUrl": "http://bouncehook.example.com/bounce",
      "OpenHookUrl": "http://openhook.example.com/open",
      "DeliveryHookUrl": "http://hooks.example.com/delivery",
      "PostFirstOpenOnly": true,
      "InboundDomain": "",
      "InboundHash": "yourhash",
      "InboundSpamThreshold": 5,
      "TrackOpens": false,
      "TrackLinks": "None",
      "IncludeBounceContentInHook": true,
      "ClickHookUrl": "http://hooks.example.com/click",
      "EnableSmtpApiErrorHooks": false
    },
    {
      "ID": 2,
      "Name": "Production02",
      "ApiTokens": [
        "server token"
      ],
      "Color": "green",
      "SmtpApiActivated": true,
      "RawEmailEnabled": false,
      "DeliveryType": "Sandbox",
      "ServerLink": "https://postmarkapp.com/servers/2/streams",
      "InboundAddress": "yourhash@inbound.postmarkapp.com",
      "InboundHookUrl": "",
      "BounceHookUrl": "",
      "OpenHookUrl": "",
      "DeliveryHookUrl": "http://hooks.example.com/delivery",
      "PostFirstOpenOnly": false,
      "InboundDomain": "",
      "InboundHash": "yourhash",
      "InboundSpamThreshold": 0,
      "TrackOpens": true,
      "TrackLinks": "HtmlAndText",
      "IncludeBounceContentInHook": false,
      "ClickHookUrl": "",
      "EnableSmtpApiErrorHooks": false
    }
  ]
}""")
DELETED: dict[str, Any] = json.loads("""{
  "ErrorCode": 0,
  "Message": "Server Production Server 2 removed."
}""")


async def run(postmark: Postmark, line: str, number: int = 0) -> Any:  # Any: JSON
    """What curl is answered, with our host, token and number in the line."""
    line = line.replace(TOKEN, postmark.house.account_key).replace(NUMBER, str(number))
    asked = read_curl(line.replace(HOST, "http://post.example"))
    http = postmark.house.http
    answer = await http.request(asked.method, asked.url, headers=asked.headers, content=asked.content)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


def shape(answer: Any) -> Any:  # Any: JSON
    """Names in their order, and the types of values."""
    if isinstance(answer, dict):
        return [(name, shape(value)) for name, value in answer.items()]
    if isinstance(answer, list):
        return [shape(one) for one in answer]
    return type(answer).__name__


async def test_every_printed_line_in_turn(postmark: Postmark) -> None:
    made = await run(postmark, CREATE_LINE)
    assert shape(made) == shape(SERVER)
    assert (made["Name"], made["Color"]) == ("Production", "purple")
    assert await run(postmark, GET, made["ID"]) == made
    changed = await run(postmark, EDIT_LINE, made["ID"])
    assert shape(changed) == shape(EDITED)
    assert changed == made | {"Name": "Production 2", "Color": "blue"}
    listed = await run(postmark, LIST)
    assert list(listed) == list(LISTED)
    assert listed["TotalCount"] == 3
    assert listed["Servers"][2] == changed
    assert {str(list(one)) for one in listed["Servers"]} == {str(list(SERVER))}
    gone = await run(postmark, DELETE, made["ID"])
    assert gone == DELETED | {"Message": "Server Production 2 removed."}


async def test_the_printed_bodies_are_taken_and_come_back(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/servers", CREATE)
    assert {name: made[name] for name in CREATE} == CREATE
    assert shape(made) == shape(SERVER)
    changed = await postmark.ok("PUT", f"/servers/{made['ID']}", EDIT)
    assert changed == made | EDIT


async def test_curl_may_leave_the_content_type_to_itself(postmark: Postmark) -> None:
    """Then it declares a form, and what it sends is JSON all the same."""
    line = CREATE_LINE.replace('  -H "Content-Type: application/json" \\\n', "")
    assert "Content-Type" not in line
    assert (await run(postmark, line))["Name"] == "Production"
