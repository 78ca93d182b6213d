"""The email server calls: whole answers, every documented rule, and how each ambiguity is resolved."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.core.connection import SECRET_FIELDS
from tests.dialects.broadcast.conftest import GOOD, House
from tests.support.context import REFUSED_LOGIN

B8 = "•" * 8
USERNAME = "AKIA" + "•" * 12 + "MPLE"


async def make(house: House, key: str | None = None, **change: object) -> dict[str, Any]:
    answer = await house.call("POST", "/email_servers", {"email_server": {**GOOD, **change}}, key=key)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def refused(house: House, **change: object) -> str:
    given = {name: value for name, value in {**GOOD, **change}.items() if value is not ...}
    answer = await house.call("POST", "/email_servers", {"email_server": given})
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) == {"error"}
    text: str = answer.json()["error"]
    return text


async def test_create_answers_201_with_the_whole_object(house: House) -> None:
    made = await make(house)
    assert made == {
        "id": 1,
        "label": "Production AWS SES",
        "vendor": "aws_ses",
        "delivery_method": "smtp",
        "active": True,
        "emails_per_hour": 1000,
        "use_for_broadcasts": True,
        "use_for_sequences": True,
        "use_for_transactionals": False,
        "smtp_address": "email-smtp.us-east-1.amazonaws.com",
        "smtp_port": 587,
        "smtp_username": USERNAME,
        "smtp_password": B8,
        "smtp_authentication": "plain",
        "smtp_enable_starttls_auto": True,
        "include_unsubscribe_header": True,
        "include_unsubscribe_link": True,
        "use_custom_unsubscribe_link": False,
        "custom_unsubscribe_link": None,
        "aws_region": "us-east-1",
        "aws_ses_configuration_set": None,
        "aws_access_key_id": None,
        "aws_secret_access_key": None,
        "outbound_aws_access_key_id": None,
        "outbound_aws_secret_access_key": None,
        "aws_setup_completed": False,
        "postmark_api_token": None,
        "inboxroad_api_token": None,
        "inboxroad_sync_enabled": False,
        "smtp_com_api_key": None,
        "smtp_com_channel": None,
        "connection_failed_at": None,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert made["created_at"].endswith("Z")
    assert "." not in made["created_at"]


async def test_show_and_list_with_and_without_json(house: House) -> None:
    made = await make(house)
    for path in ("/email_servers/1", "/email_servers/1.json", "/email_servers/1/"):
        assert (await house.call("GET", path)).json() == made
    for path in ("/email_servers", "/email_servers.json"):
        assert (await house.call("GET", path)).json() == {"data": [made], "total": 1}


async def test_the_same_below_the_dialects_own_prefix(house: House) -> None:
    made = await make(house)
    answer = await house.http.get(
        "/broadcast/api/v1/email_servers/1", headers={"Authorization": f"Bearer {house.server_key}"}
    )
    assert answer.json() == made


async def test_total_counts_all_and_pages_do_not_overlap_row_10(house: House) -> None:
    for number in range(5):
        await make(house, label=f"n{number}")
    seen: list[int] = []
    for offset in (0, 2, 4, 6):
        page = (await house.call("GET", f"/email_servers?limit=2&offset={offset}")).json()
        assert page["total"] == 5
        seen += [one["id"] for one in page["data"]]
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=0", "limit=x", "limit=1e9", "offset=-3", "limit=&offset="]
)
async def test_w14_strange_pages_take_the_default_row_11(house: House, query: str) -> None:
    await make(house)
    assert (await house.call("GET", f"/email_servers?{query}")).json()["total"] == 1
    assert len((await house.call("GET", f"/email_servers?{query}")).json()["data"]) == 1


async def test_w14_a_limit_has_a_ceiling(house: House) -> None:
    answer = await house.call("GET", "/email_servers?limit=99999999999999999999&offset=99999999999999999999")
    assert answer.json() == {"data": [], "total": 0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": ""}, "Label can't be blank"),
        ({"label": "   "}, "Label can't be blank"),
        ({"label": ...}, "Label can't be blank"),
        ({"emails_per_hour": ...}, "Emails per hour can't be blank"),
        ({"emails_per_hour": 14}, "Emails per hour must be greater than or equal to 15"),
        ({"emails_per_hour": -1}, "Emails per hour must be greater than or equal to 15"),
        ({"emails_per_hour": 2**31}, "Emails per hour must be less than or equal to 2147483647"),
        ({"emails_per_hour": 2**63}, "Emails per hour must be less than or equal to 2147483647"),
        ({"vendor": "smtp"}, "Vendor is not included in the list"),
        ({"delivery_method": "aws_ses"}, "Delivery method is not included in the list"),
        ({"smtp_address": ...}, "Smtp address can't be blank"),
        ({"smtp_port": ...}, "Smtp port can't be blank"),
        ({"smtp_username": ...}, "Smtp username can't be blank"),
        ({"smtp_password": ...}, "Smtp password can't be blank"),
        ({"smtp_authentication": ...}, "Smtp authentication can't be blank"),
        ({"smtp_authentication": "ntlm"}, "Smtp authentication is not included in the list"),
        ({"smtp_password": B8}, "Smtp password can't be blank"),
        ({"smtp_username": USERNAME}, "Smtp username can't be blank"),
    ],
)
async def test_each_rule_has_its_sentence(house: House, change: dict[str, object], said: str) -> None:
    assert await refused(house, **change) == said


async def test_sentences_are_joined_by_comma_and_space(house: House) -> None:
    text = await refused(house, label="", use_for_broadcasts=False, use_for_sequences=False)
    assert text == (
        "Label can't be blank, "
        "At least one use case (broadcasts, sequences, or transactionals) must be selected"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("emails_per_hour", 1.5),
        ("emails_per_hour", True),
        ("emails_per_hour", "many"),
        ("emails_per_hour", [15]),
        ("smtp_port", 0),
        ("smtp_port", 65536),
        ("smtp_port", "587; ls"),
        ("label", 5),
        ("label", {"a": 1}),
        ("label", "a\x00b"),
        ("label", "x" * 10_000),
        ("smtp_address", "http://example.com/"),
        ("smtp_address", "exa mple.com"),
        ("smtp_address", "example.com\r\nX: y"),
        ("use_for_broadcasts", "maybe"),
        ("smtp_password", "a\r\nb"),
        ("vendor", None.__class__.__name__),
    ],
)
async def test_w17_w18_type_confusion_is_a_sentence(house: House, field: str, value: object) -> None:
    assert await refused(house, **{field: value})
    assert (await house.call("GET", "/email_servers")).json()["total"] == 0


async def test_w17_digits_are_a_number(house: House) -> None:
    made = await make(house, emails_per_hour="1000", smtp_port="587")
    assert (made["emails_per_hour"], made["smtp_port"]) == (1000, 587)


@pytest.mark.parametrize("label", ["✉️ Post", "שלום", "a b"])
async def test_w18_labels_of_any_script(house: House, label: str) -> None:
    assert (await make(house, label=label))["label"] == label


API: dict[str, dict[str, object]] = {
    "postmark": {"postmark_api_token": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"},
    "aws_ses": {
        "outbound_aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "outbound_aws_secret_access_key": "secret-secret",
        "aws_region": "us-east-1",
    },
}
_BASE = {"label": "x", "emails_per_hour": 500, "use_for_transactionals": True, "delivery_method": "api"}


@pytest.mark.parametrize("vendor", sorted(API))
async def test_api_delivery_needs_the_vendors_credentials_only(house: House, vendor: str) -> None:
    given = {**_BASE, "vendor": vendor, **API[vendor]}
    answer = await house.call("POST", "/email_servers", {"email_server": given})
    assert answer.status_code == 201, answer.text
    assert answer.json()["smtp_address"] is None
    for name in API[vendor]:
        without = {key: value for key, value in given.items() if key != name}
        answer = await house.call("POST", "/email_servers", {"email_server": without})
        assert answer.status_code == 422
        assert "can't be blank" in answer.json()["error"]


@pytest.mark.parametrize("vendor", ["sendgrid", "mailgun", "inboxroad", "resend", "smtp_com", "other"])
async def test_api_delivery_is_for_two_vendors_only_row_13(house: House, vendor: str) -> None:
    answer = await house.call("POST", "/email_servers", {"email_server": {**_BASE, "vendor": vendor}})
    assert answer.status_code == 422


async def test_defaults(house: House) -> None:
    given = {name: GOOD[name] for name in GOOD if name not in ("vendor", "delivery_method", "aws_region")}
    answer = await house.call("POST", "/email_servers", {"email_server": given})
    made = answer.json()
    assert (made["vendor"], made["delivery_method"], made["active"]) == ("other", "smtp", True)


async def test_update_changes_what_it_names_and_answers_the_whole_row_9(house: House) -> None:
    made = await make(house)
    house.harness.clock.advance(60)
    change = {"label": "Updated Server Name", "emails_per_hour": 2000}
    answer = await house.call("PATCH", "/email_servers/1", {"email_server": change})
    assert answer.status_code == 200
    assert answer.json() == {**made, **change, "updated_at": answer.json()["updated_at"]}
    assert answer.json()["updated_at"] > made["updated_at"]


async def test_update_holds_the_merged_record_to_the_rules_row_17(house: House) -> None:
    await make(house)
    change = {"use_for_broadcasts": False, "use_for_sequences": False}
    answer = await house.call("PATCH", "/email_servers/1", {"email_server": change})
    assert answer.status_code == 422
    assert "At least one use case" in answer.json()["error"]


async def test_w15_masks_sent_back_never_overwrite_row_2(house: House) -> None:
    secrets = {name: f"secret-of-{name}-0123456789" for name in SECRET_FIELDS}
    made = await make(house, **secrets)
    assert all("•" in made[name] for name in SECRET_FIELDS)
    answer = await house.call("PATCH", "/email_servers/1", {"email_server": {**made, "label": "New"}})
    assert answer.status_code == 200, answer.text
    told = {one["param"]: one["code"] for one in answer.json()["warnings"]}
    assert dict.fromkeys(SECRET_FIELDS, "parameter_ignored").items() <= told.items()
    again = (await house.call("GET", "/email_servers/1")).json()
    assert {name: again[name] for name in SECRET_FIELDS} == {name: made[name] for name in SECRET_FIELDS}
    await house.call("POST", "/email_servers/1/test_connection")
    assert dict(house.harness.prober.asked[-1].secrets) == secrets


async def test_w15_null_and_blank_clear_what_is_not_needed(house: House) -> None:
    await make(house, inboxroad_api_token="abcdefghijkl", smtp_com_api_key="abcdefghijkl")
    change = {"inboxroad_api_token": None, "smtp_com_api_key": ""}
    shown = (await house.call("PATCH", "/email_servers/1", {"email_server": change})).json()
    assert (shown["inboxroad_api_token"], shown["smtp_com_api_key"]) == (None, None)
    answer = await house.call("PATCH", "/email_servers/1", {"email_server": {"smtp_password": None}})
    assert answer.status_code == 422


async def test_a_short_user_name_is_hidden_whole_row_1(house: House) -> None:
    assert (await make(house, smtp_username="apikey"))["smtp_username"] == B8
    assert (await make(house, smtp_username="12345678"))["smtp_username"] == B8
    assert (await make(house, smtp_username="123456789"))["smtp_username"] == "1234•6789"


async def test_unknown_and_read_only_parameters_are_remarked_on(house: House) -> None:
    given = {**GOOD, "id": 77, "created_at": "x", "connection_failed_at": "y", "colour": "vermilion"}
    answer = await house.call("POST", "/email_servers", {"email_server": given, "shade": 1})
    assert answer.status_code == 201
    told = {one["param"]: one["code"] for one in answer.json()["warnings"]}
    assert told == {
        "shade": "unrecognized_parameter",
        "colour": "unrecognized_parameter",
        "id": "parameter_ignored",
        "created_at": "parameter_ignored",
        "connection_failed_at": "parameter_ignored",
    }
    assert answer.json()["id"] == 1
    assert "vermilion" not in str(answer.json()["warnings"])


async def test_w13_nothing_else_can_be_assigned(house: House) -> None:
    given = {**GOOD, "account_id": 2, "server_id": 3, "tenant_id": 3, "version": 9, "disabled_at": 1}
    made = (await house.call("POST", "/email_servers", {"email_server": given})).json()
    assert (await house.call("GET", f"/email_servers/{made['id']}")).status_code == 200
    assert len(made["warnings"]) == 5


async def test_a_passing_test_activates_rows_5_6(house: House) -> None:
    await make(house, active=False)
    reader = await house.key("email_servers_read")
    answer = await house.call("POST", "/email_servers/1/test_connection", key=reader)
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "message": "Connection successful"}
    shown = (await house.call("GET", "/email_servers/1")).json()
    assert (shown["active"], shown["connection_failed_at"]) == (True, None)


async def test_a_failing_test_says_the_cause_and_marks_it_row_7(house: House) -> None:
    await make(house)
    house.harness.prober.outcome = REFUSED_LOGIN
    answer = await house.call(
        "POST", "/email_servers/1/test_connection", content=b"", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["success"] is False
    assert answer.json()["message"] == "Connection failed"
    assert "login" in answer.json()["error"].lower()
    shown = (await house.call("GET", "/email_servers/1")).json()
    assert shown["active"] is False
    assert shown["connection_failed_at"] is not None


async def test_delete(house: House) -> None:
    await make(house)
    answer = await house.call("DELETE", "/email_servers/1")
    assert (answer.status_code, answer.json()) == (200, {"message": "Email server deleted successfully"})
    assert (await house.call("GET", "/email_servers/1")).status_code == 404
    assert (await house.call("GET", "/email_servers")).json() == {"data": [], "total": 0}


CALLS = [
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("POST", "/test_connection"),
]


@pytest.mark.parametrize(("method", "tail"), CALLS)
@pytest.mark.parametrize("which", ["1", "2", "0", "-1", "abc", "99999999999999999999", "1%20", "1.5"])
async def test_w20_a_foreign_id_looks_like_none(house: House, method: str, tail: str, which: str) -> None:
    await make(house)  # 1, of this channel
    key = house.foreign_key if which == "1" else house.server_key
    body = {"email_server": {"label": "mine"}} if method == "PATCH" else None
    answer = await house.call(method, f"/email_servers/{which}{tail}", body, key=key)
    assert (answer.status_code, answer.json()) == (404, {"error": "Email server not found"})


async def test_an_account_key_names_its_channel(house: House) -> None:
    made = await make(house)
    for method, path in (
        ("GET", "/email_servers"),
        ("GET", "/email_servers/1"),
        ("DELETE", "/email_servers/1"),
    ):
        answer = await house.call(method, path, key=house.account_key)
        assert answer.status_code == 422
        assert "broadcast_channel_id" in answer.json()["error"]
    path = f"/email_servers?broadcast_channel_id={house.channel}"
    assert (await house.call("GET", path, key=house.account_key)).json()["data"] == [made]
    path = f"/email_servers?broadcast_channel_id={house.foreign_channel}"
    answer = await house.call("GET", path, key=house.account_key)
    assert (answer.status_code, answer.json()) == (404, {"error": "Channel not found"})
    path = f"/email_servers?broadcast_channel_id={house.other_channel}"
    assert (await house.call("GET", path)).status_code == 404  # a channel's key stays in its channel


async def test_copy_to_another_channel(house: House) -> None:
    await make(house)
    wanted = {"target_channel_id": house.other_channel, "broadcast_channel_id": house.channel}
    answer = await house.call("POST", "/email_servers/1/copy_to_channel", wanted)
    assert answer.status_code == 403
    assert answer.json() == {"error": "Admin API token required for cross-channel operations"}
    answer = await house.call("POST", "/email_servers/1/copy_to_channel", wanted, key=house.account_key)
    assert answer.status_code == 201, answer.text
    there = f"/email_servers?broadcast_channel_id={house.other_channel}"
    assert (await house.call("GET", there, key=house.account_key)).json()["data"][0][
        "smtp_username"
    ] == USERNAME


@pytest.mark.parametrize(
    ("scopes", "method", "path", "allowed"),
    [
        (["email_servers_read"], "GET", "/email_servers", True),
        (["email_servers_read"], "POST", "/email_servers/1/test_connection", True),
        (["email_servers_read"], "DELETE", "/email_servers/1", False),
        (["email_servers_read"], "POST", "/email_servers", False),
        (["email_servers_write"], "GET", "/email_servers", False),
        (["transactionals_write"], "GET", "/email_servers", False),
        (["all"], "DELETE", "/email_servers/1", True),
    ],
)
async def test_w19_a_missing_permission_is_401_row_4(
    house: House, scopes: list[str], method: str, path: str, allowed: bool
) -> None:
    await make(house)
    answer = await house.call(method, path, key=await house.key(*scopes))
    assert (answer.status_code == 401) is not allowed
    if not allowed:
        assert answer.json() == {"error": "Unauthorized"}
