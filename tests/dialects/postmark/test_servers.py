"""The server calls against a running application, as the product's documentation has them."""

from __future__ import annotations

from postroom.actions import accounts, servers
from postroom.actions.servers import ServerChanges
from postroom.core.server import Owner
from postroom.storage.interface import Rows, Sql, Work
from tests.dialects.house import House
from tests.dialects.postmark.conftest import ACCOUNT_TOKEN, SERVER_TOKEN, Postmark
from tests.dialects.postmark.test_printed_calls import CREATE, EDIT
from tests.support.context import ACTOR
from tests.support.trail import Trail, secrets_in

FIELDS = [
    *(
        "ID",
        "Name",
        "ApiTokens",
        "Color",
        "SmtpApiActivated",
        "RawEmailEnabled",
        "DeliveryType",
        "ServerLink",
    ),
    *("InboundAddress", "InboundHookUrl", "BounceHookUrl", "OpenHookUrl", "DeliveryHookUrl"),
    *(
        "PostFirstOpenOnly",
        "InboundDomain",
        "InboundHash",
        "InboundSpamThreshold",
        "TrackOpens",
        "TrackLinks",
    ),
    *("IncludeBounceContentInHook", "ClickHookUrl", "EnableSmtpApiErrorHooks"),
]


async def test_the_documented_bodies_make_and_change_a_server(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/servers", CREATE)
    assert list(made) == FIELDS
    assert {name: made[name] for name in CREATE} == CREATE
    (token,) = made["ApiTokens"]
    assert len(made["InboundHash"]) == 32
    assert made["InboundAddress"] == f"{made['InboundHash']}@inbound.post.example"
    assert made["ServerLink"] == f"http://post.example/app/servers/{made['ID']}/streams"
    assert await postmark.ok("GET", f"/servers/{made['ID']}") == made
    assert await postmark.ok("GET", "/server", token=token) == made

    changed = await postmark.ok("PUT", f"/servers/{made['ID']}", EDIT)
    assert changed == made | EDIT
    assert await postmark.ok("GET", "/server", token=token.upper()) == changed

    assert await postmark.ok("DELETE", f"/servers/{made['ID']}") == {
        "ErrorCode": 0,
        "Message": "Server Production 2 removed.",
    }
    assert await postmark.refused(601, "GET", f"/servers/{made['ID']}")
    assert await postmark.refused(601, "DELETE", f"/servers/{made['ID']}")
    assert await postmark.refused(10, "GET", "/server", token=token)


async def test_what_a_new_server_is_unless_it_is_told_otherwise(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/servers", {"Name": "Plain"})
    rest = {name: made[name] for name in FIELDS if name not in {"ID", "ApiTokens", "ServerLink"}}
    assert rest == {
        "Name": "Plain",
        "Color": "purple",
        "SmtpApiActivated": True,
        "RawEmailEnabled": False,
        "DeliveryType": "Live",
        "InboundAddress": f"{made['InboundHash']}@inbound.post.example",
        "InboundHookUrl": "",
        "BounceHookUrl": "",
        "OpenHookUrl": "",
        "DeliveryHookUrl": "",
        "PostFirstOpenOnly": False,
        "InboundDomain": "",
        "InboundHash": made["InboundHash"],
        "InboundSpamThreshold": 0,
        "TrackOpens": False,
        "TrackLinks": "None",
        "IncludeBounceContentInHook": False,
        "ClickHookUrl": "",
        "EnableSmtpApiErrorHooks": False,
    }


async def test_null_and_absent_leave_what_is_and_an_empty_url_clears(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/servers", {**CREATE, "InboundDomain": "in.shop.example"})
    path = f"/servers/{made['ID']}"
    nothing = dict.fromkeys(CREATE)
    assert await postmark.ok("PUT", path, {**nothing, "Color": "green"}) == made | {"Color": "green"}
    cleared = {"BounceHookUrl": "", "InboundDomain": "", "Color": "", "Name": "", "TrackLinks": ""}
    expected = made | {"Color": "green", "BounceHookUrl": "", "InboundDomain": ""}
    assert await postmark.ok("PUT", path, cleared) == expected


async def test_w13_names_in_any_case_and_names_nobody_knows(postmark: Postmark) -> None:
    made = await postmark.ok(
        "POST", "/servers", {"name": "Camel", "smtpApiActivated": "False", "id": 1, "x": []}
    )
    assert (made["Name"], made["SmtpApiActivated"]) == ("Camel", False)
    assert made["ID"] != 1
    sent = {"INBOUNDSPAMTHRESHOLD": "7", "apitokens": ["mine"], "InboundHash": "mine", "TrackOpens": 1}
    changed = await postmark.ok("PUT", "/Servers/" + str(made["ID"]) + "/", sent)
    assert changed == made | {"InboundSpamThreshold": 7, "TrackOpens": True}


WRONG: list[tuple[int, dict[str, object]]] = [
    (608, {"Name": None}),
    (608, {"Name": ""}),
    (608, {"Name": "   "}),
    (608, {"Name": "x" * 256}),
    (608, {"Name": "a\r\nb"}),
    (403, {"Name": ["x"]}),
    (403, {"Name": True}),
    (603, {"Name": "Shop"}),
    (603, {"Name": "sHOP"}),
    (607, {"Color": "Pink"}),
    (607, {"Color": 3}),
    (403, {"SmtpApiActivated": "maybe"}),
    (403, {"TrackOpens": []}),
    (403, {"RawEmailEnabled": 2}),
    (611, {"InboundSpamThreshold": 31}),
    (611, {"InboundSpamThreshold": -1}),
    (611, {"InboundSpamThreshold": 1.5}),
    (611, {"InboundSpamThreshold": 2**63}),
    (611, {"InboundSpamThreshold": "many"}),
    (611, {"InboundSpamThreshold": True}),
    (612, {"TrackLinks": "All"}),
    (612, {"TrackLinks": True}),
    (613, {"DeliveryType": "Dry"}),
    (613, {"DeliveryType": {}}),
    (608, {"InboundDomain": "127.0.0.1"}),
    (608, {"InboundDomain": "a b.example"}),
    (608, {"InboundDomain": "inbound.post.example"}),
    (608, {"InboundDomain": "*.x.Inbound.post.example"}),
    (608, {"InboundDomain": "x@shop.example"}),
    (403, {"InboundDomain": {}}),
]


async def test_w17_a_field_that_is_wrong_is_refused_with_its_code(postmark: Postmark) -> None:
    path = f"/servers/{postmark.house.other_channel}"
    before = await postmark.ok("GET", path)
    for code, change in WRONG:
        await postmark.refused(code, "POST", "/servers", {"Name": "New", **change})
        if change.get("Name", "x"):  # without one an edit is one of nothing
            await postmark.refused(code, "PUT", path, change)
    assert await postmark.ok("GET", path) == before
    assert (await postmark.ok("GET", "/servers?count=5&offset=0"))["TotalCount"] == 2


NO_HOOKS = [
    *(
        "ftp://hooks.example/x",
        "hooks.example",
        "//hooks.example/",
        "http://",
        "javascript:alert(1)",
        "x" * 3000,
    ),
    *("http://127.0.0.1/", "http://127.1/", "http://0x7f.1/", "http://2130706433/", "http://[::1]/"),
    *("https://10.0.0.1:8443/x", "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/"),
    *("http://127。0。0。1/", "http://localhost/", "http://localhost./x", "http://good@127.0.0.1/"),
    *("http://hooks.example/#part", "http://hooks.example:0/", "http://hooks.example:99999/"),
    *(
        "http://hooks.example/a b",
        "http://hooks.example/\r\nX: y",
        "http://:x@hooks.example/",
        "http://a b@c/",
    ),
    *("http://hooks.example\\@evil.example/"),
]


async def test_x_a_hook_that_may_not_be_dialled_is_refused(postmark: Postmark) -> None:
    """X1-X19: addresses in any spelling, and what is no URL of a web server."""
    for url in NO_HOOKS:
        said = await postmark.refused(606, "POST", "/servers", {"Name": "New", "ClickHookUrl": url})
        assert said.startswith("'ClickHookUrl' "), url


async def test_a_hooks_host_is_kept_in_its_one_form(postmark: Postmark) -> None:
    sent = {"Name": "New", "OpenHookUrl": "https://Hooks.München.example:443/ä?q=ü&x=%20"}
    made = await postmark.ok("POST", "/servers", sent)
    assert made["OpenHookUrl"] == "https://hooks.xn--mnchen-3ya.example/%C3%A4?q=%C3%BC&x=%20"


async def test_a_password_in_a_hooks_url_goes_in_and_never_out(postmark: Postmark) -> None:
    url = "https://post:s3cret-canary@hooks.example/bounce"
    made = await postmark.ok("POST", "/servers", {"Name": "New", "BounceHookUrl": url})
    assert made["BounceHookUrl"] == "https://post:********@hooks.example/bounce"
    path = f"/servers/{made['ID']}"
    # What came back may be sent again as it is, and keeps the password.
    assert await postmark.ok("PUT", path, made | {"Color": "red"}) == made | {"Color": "red"}
    assert await hook_password(postmark.house, made["ID"]) == "post:s3cret-canary"
    elsewhere = made["BounceHookUrl"].replace("hooks.example", "evil.example")
    await postmark.refused(606, "PUT", path, {"BounceHookUrl": elsewhere})
    await postmark.refused(606, "PUT", path, {"ClickHookUrl": made["BounceHookUrl"]})
    await postmark.ok("PUT", path, {"BounceHookUrl": url.replace("s3cret-canary", "other-canary")})
    assert await hook_password(postmark.house, made["ID"]) == "post:other-canary"
    assert await secrets_in(postmark.house.ctx, "s3cret-canary", "other-canary") == []
    plain = await postmark.ok("PUT", path, {"BounceHookUrl": "https://hooks.example/bounce"})
    assert plain["BounceHookUrl"] == "https://hooks.example/bounce"
    assert await hook_password(postmark.house, made["ID"]) is None


async def hook_password(house: House, server: int) -> str | None:
    from postroom.actions.server_secrets import secrets_of
    from postroom.ids import ServerId

    found = await secrets_of(house.ctx, house.account, [ServerId(server)])
    return found[ServerId(server)].hook_logins.get("bounce_hook")


async def test_an_inbound_domain_belongs_to_one_server_of_all_accounts(postmark: Postmark) -> None:
    house = postmark.house
    await postmark.ok("POST", "/servers", {"Name": "A", "InboundDomain": "*.In.Shop.example"})
    await postmark.refused(602, "POST", "/servers", {"Name": "B", "InboundDomain": "*.in.shop.example"})
    rival = await accounts.list_accounts(house.ctx)
    change = ServerChanges(inbound_domain="other.example")
    await servers.update_server(house.ctx, ACTOR, Owner(rival[1].account_id), house.foreign_channel, change)
    own = f"/servers/{house.channel}"
    await postmark.refused(602, "PUT", own, {"InboundDomain": "other.example"})
    shown = await postmark.ok("PUT", own, {"InboundDomain": "MÜNCHEN.example"})
    assert shown["InboundDomain"] == "xn--mnchen-3ya.example"
    assert await postmark.ok("PUT", own, {"InboundDomain": shown["InboundDomain"]}) == shown


async def test_what_kind_of_server_it_is_cannot_be_changed(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/servers", {"Name": "Box", "DeliveryType": "sandbox"})
    assert made["DeliveryType"] == "Sandbox"
    path = f"/servers/{made['ID']}"
    assert await postmark.ok("PUT", path, {"DeliveryType": "Sandbox", "Color": "red"}) == made | {
        "Color": "red"
    }
    await postmark.refused(615, "PUT", path, {"DeliveryType": "Live"})
    await postmark.refused(615, "PUT", "/server", {"DeliveryType": "Sandbox"})


async def test_a_request_without_data(postmark: Postmark) -> None:
    for body in (b"", b"null", b" "):
        await postmark.refused(609, "POST", "/servers", content=body)
        await postmark.refused(609, "PUT", "/server", content=body)
    for empty in ({}, {"Unknown": 1}, {"Name": None}):
        await postmark.refused(609, "PUT", f"/servers/{postmark.house.channel}", empty)
    await postmark.refused(608, "POST", "/servers", {})


NO_OBJECTS = [
    *(b"{", b"[]", b'"x"', b"1", b"true", b"{'Name': 1}", b'{"Name": "a"} {}', b"NaN", b'{"a": NaN}'),
    *(
        b'{"Name": "a", "Name": "b"}',
        b'{"Name": "a", "name": "b"}',
        b'{"a": 1e999}',
        b'\xef\xbb\xbf{"a": 1}',
    ),
    *('{"Name": "x"}'.encode("utf-16"), b'{"Name": "\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000),
]


async def test_w1_what_is_no_json_object_is_refused(postmark: Postmark) -> None:
    for body in NO_OBJECTS:
        await postmark.refused(402, "POST", "/servers", content=body)
        await postmark.refused(402, "PUT", "/server", content=body)


async def test_w2_a_body_is_bounded(postmark: Postmark) -> None:
    said = await postmark.refused(413, "POST", "/servers", {"Name": "x" * (1 << 20)})
    assert said == f"The request is larger than {1 << 20} bytes."


NO_PAGES = [
    *("", "count=10", "offset=0", "count=0&offset=0", "count=501&offset=0", "count=1&offset=-1"),
    *("count=&offset=0", "count=x&offset=0", "count=1.5&offset=0", "count=99999999999999999999&offset=0"),
]


async def test_w14_count_and_offset_are_required_and_bounded(postmark: Postmark) -> None:
    for query in NO_PAGES:
        await postmark.refused(600, "GET", f"/servers?{query}")


async def test_w14_a_list_page_by_page(postmark: Postmark) -> None:
    for number in range(5):
        await postmark.ok("POST", "/servers", {"Name": f"Kiosk {number} 100%"})
    found = await postmark.ok("GET", "/servers?COUNT=2&Offset=1&Name=KIOSK")
    assert found["TotalCount"] == 5
    assert [one["Name"] for one in found["Servers"]] == ["Kiosk 1 100%", "Kiosk 2 100%"]
    assert (await postmark.ok("GET", "/servers?count=500&offset=9"))["Servers"] == []
    for pattern, count in (("100%", 5), ("k_o", 0), ("%", 5), ("nobody", 0), ("", 7), ("\\", 0)):
        found = await postmark.ok("GET", "/servers", params={"count": 10, "offset": 0, "name": pattern})
        assert found["TotalCount"] == count, pattern


async def test_a_foreign_server_looks_like_one_that_is_not_there(postmark: Postmark) -> None:
    said = set()
    for number in (postmark.house.foreign_channel, 99, 0, "x", 2**64, "1.0", "%00"):
        for method, body in (("GET", None), ("PUT", {"Color": "red"}), ("DELETE", None)):
            said.add(await postmark.refused(601, method, f"/servers/{number}", body))
    assert len(said) == 1


async def test_the_plan_of_an_account_bounds_its_servers(postmark: Postmark) -> None:
    await alter(postmark, "UPDATE accounts SET max_servers = 3")
    made = await postmark.ok("POST", "/servers", {"Name": "Third"})
    await postmark.refused(614, "POST", "/servers", {"Name": "Fourth"})
    await postmark.ok("DELETE", f"/servers/{made['ID']}")
    await postmark.ok("POST", "/servers", {"Name": "Fourth"})


async def test_deleting_can_be_switched_off_for_an_account(postmark: Postmark) -> None:
    await alter(postmark, "UPDATE accounts SET may_delete_servers = 0")
    await postmark.refused(604, "DELETE", f"/servers/{postmark.house.channel}")
    assert (await postmark.ok("GET", "/server"))["Name"] == "Shop"


async def test_w19_tokens_are_shown_to_whom_they_give_nothing(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/servers", {"Name": "New"})
    (token,) = made["ApiTokens"]
    narrow = await postmark.house.key("channel_settings_read")
    shown = await postmark.ok("GET", "/server", token=narrow)
    assert shown["ApiTokens"] == []
    await postmark.refused(10, "PUT", "/server", {"Color": "red"}, token=narrow)
    assert await secrets_in(postmark.house.ctx, token) == []


async def test_a_revoked_token_is_not_shown(postmark: Postmark) -> None:
    from postroom.actions.keys import list_keys, revoke_key

    made = await postmark.ok("POST", "/servers", {"Name": "New"})
    owner = Owner(postmark.house.account, made["ID"])
    (key,) = await list_keys(postmark.house.ctx, owner)
    await revoke_key(postmark.house.ctx, ACTOR, owner, key.key_id)
    assert (await postmark.ok("GET", f"/servers/{made['ID']}"))["ApiTokens"] == []


async def test_each_change_has_its_line_and_no_change_has_none(postmark: Postmark) -> None:
    trail = Trail(postmark.house.ctx)
    await trail.new()
    made = await postmark.ok("POST", "/servers", CREATE)
    wrote = [one.action for one in await trail.new()]
    assert wrote[:2] == ["server.create", "key.create"]
    before = await stamp(postmark, made["ID"])
    await postmark.ok("PUT", f"/servers/{made['ID']}", CREATE)
    assert [one for one in await trail.new() if one.action == "server.update"] == []
    assert await stamp(postmark, made["ID"]) == before


async def test_the_tokens_of_a_new_server_send_two_headers_alike(house: House) -> None:
    """Some clients send both headers with every request."""
    headers = {ACCOUNT_TOKEN: house.account_key, SERVER_TOKEN: house.server_key}
    made = (await house.http.post("/postmark/servers", headers=headers, json={"Name": "New"})).json()
    assert made["Name"] == "New"


async def alter(postmark: Postmark, text: str) -> None:
    def work() -> Work[None]:
        yield Sql(text)

    await postmark.house.harness.store.write(work)


async def stamp(postmark: Postmark, server: int) -> int:
    def work() -> Work[Rows]:
        return (yield Sql("SELECT updated_at FROM servers WHERE server_id = :id", {"id": server}))

    found: int = (await postmark.house.harness.store.read(work))[0][0]
    return found
