"""Sending with templates: what goes out, what is refused and in which order, and what hostile models meet."""

from __future__ import annotations

import json
from typing import Any

from postroom.mail.content import Content
from tests.dialects.postmark.conftest import SERVER_TOKEN, Postmark
from tests.dialects.postmark.test_sending import count, stored
from tests.dialects.postmark.test_templates import LAYOUT, UNKNOWN_ALIAS, UNKNOWN_ID, WELCOME

TEST = "POSTMARK_API_TEST"
MAIL: dict[str, Any] = {
    "From": "Shop <hello@shop.example>",
    "To": "Ann <ann@example.net>",
    "TemplateAlias": "welcome",
    "TemplateModel": {"name": "<Ann>"},
}
ONE, MANY = "/email/withTemplate/", "/email/batchWithTemplates/"


async def said(postmark: Postmark, told: Any) -> Content:
    content = (await stored(postmark, told["MessageID"])).content
    assert content is not None
    return content


async def test_a_template_says_what_the_message_says(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/templates", WELCOME)
    told = await postmark.ok("POST", ONE, {**MAIL, "Tag": "hello"})
    assert told | {"MessageID": "", "SubmittedAt": ""} == {
        "To": "Ann <ann@example.net>",
        "SubmittedAt": "",
        "MessageID": "",
        "ErrorCode": 0,
        "Message": "OK",
    }
    content = await said(postmark, told)
    assert (content.subject, content.html, content.text) == (
        "Hello <Ann>",
        "<p>Hi &lt;Ann&gt;</p>",
        "Hi <Ann>",
    )
    # A number counts before an alias, also as a text; 0 is none.
    for more in (
        {"TemplateId": made["TemplateId"], "TemplateAlias": "nothing"},
        {"TemplateId": str(made["TemplateId"]), "TemplateAlias": None},
        {"templateid": 0, "TemplateModel": []},
    ):
        told = await postmark.ok("POST", ONE, {**MAIL, **more})
        assert (await said(postmark, told)).subject.startswith("Hello")


async def test_a_layout_stands_around_it_and_css_moves_in(postmark: Postmark) -> None:
    style = "<style>p { color: red }</style>"
    await postmark.ok(
        "POST", "/templates", {**LAYOUT, "HtmlBody": f"{style}{{{{{{@content}}}}}}<i>{{{{company}}}}"}
    )
    await postmark.ok("POST", "/templates", {**WELCOME, "LayoutTemplate": "frame"})
    mail = {**MAIL, "TemplateModel": {"name": "Ann", "company": "Shop & Co"}}
    content = await said(postmark, await postmark.ok("POST", ONE, mail))
    assert content.html is not None
    assert '<p style="color: red;">Hi Ann</p><i>Shop &amp; Co</i>' in content.html
    assert content.text == "Hi Ann\n-- \nShop & Co"
    content = await said(postmark, await postmark.ok("POST", ONE, {**mail, "InlineCss": False}))
    assert content.html == f"{style}<p>Hi Ann</p><i>Shop &amp; Co"


async def test_the_place_for_unsubscribing_comes_through(postmark: Postmark) -> None:
    html = '<style>a { color: red }</style><a href="{{{ pm:unsubscribe }}}">out</a> {{{ pm:unsubscribe }}}'
    await postmark.ok(
        "POST", "/templates", {**WELCOME, "HtmlBody": html, "TextBody": "{{{ pm:unsubscribe }}}"}
    )
    content = await said(postmark, await postmark.ok("POST", ONE, MAIL))
    assert content.unsubscribe_link
    assert content.html is not None
    assert content.html.count('href="{{ unsubscribe_link }}"') == 2
    assert content.text == "{{ unsubscribe_link }}"


async def test_each_of_a_batch_has_its_own_answer(postmark: Postmark) -> None:
    await postmark.ok("POST", "/templates", WELCOME)
    told = await postmark.ok(
        "POST",
        MANY,
        {
            "messages": [
                MAIL,
                {**MAIL, "TemplateAlias": "nothing"},
                {**MAIL, "TemplateId": 99},
                {**MAIL, "TemplateModel": None},
                {**MAIL, "Subject": "x"},
                {**MAIL, "From": "a@stranger.example"},
                {**MAIL, "tEMPLATEmODEL": {}},
                "no object",
                {**MAIL, "To": "bob@example.net", "TemplateModel": {"name": "Bob"}},
            ]
        },
    )
    assert [one["ErrorCode"] for one in told] == [0, 1101, 1101, 1120, 1123, 400, 402, 403, 0]
    assert [told[1]["Message"], told[2]["Message"]] == [UNKNOWN_ALIAS, UNKNOWN_ID]
    assert [one["To"] for one in told][-1] == "bob@example.net"
    assert (await said(postmark, told[-1])).subject == "Hello Bob"
    assert await count(postmark) == 2
    assert await postmark.ok("POST", MANY, {"Messages": []}) == []
    await postmark.refused(410, "POST", MANY, {"Messages": [MAIL] * 501})
    for wrong in ({}, {"Messages": MAIL}, {"Messages": "x"}):
        await postmark.refused(403, "POST", MANY, wrong)
    for nothing in (None, [MAIL]):
        await postmark.refused(402, "POST", MANY, nothing)
        await postmark.refused(402, "POST", ONE, nothing)


async def test_what_is_wrong_is_told_in_the_products_order(postmark: Postmark) -> None:
    """Types, stream, addresses, attachments, template, sender: each alone, and before all that come later."""
    await postmark.ok("POST", "/templates", WELCOME)
    await postmark.ok("POST", "/templates", LAYOUT)
    steps: list[tuple[int, dict[str, object]]] = [
        (403, {"InlineCss": "perhaps"}),
        (403, {"TemplateId": "x"}),
        (403, {"TemplateModel": "x"}),
        (403, {"TemplateModel": [1]}),
        (403, {"TemplateAlias": {}}),
        (1235, {"MessageStream": "nothing"}),
        (1236, {"MessageStream": "inbound"}),
        (300, {"To": "nobody"}),
        (411, {"Attachments": [{"Name": "a.exe", "Content": ""}]}),
        (1123, {"HtmlBody": "<p>"}),
        (1123, {"TextBody": "x"}),
        (1120, {"TemplateModel": ""}),
        (1122, {"TemplateModel": {"pm:unsubscribe": 1}}),
        (1101, {"TemplateAlias": "frame"}),
        (1101, {"TemplateAlias": "nothing"}),
        (1101, {"TemplateAlias": ""}),
        (1101, {"TemplateId": -1}),
        (1101, {"TemplateId": 2**63}),
        (400, {"From": "a@stranger.example"}),
    ]
    for code, more in steps:
        await postmark.refused(code, "POST", ONE, {**MAIL, **more})
    for earlier, then in ((0, 5), (5, 7), (7, 8), (8, 9), (9, 14), (14, 18)):
        code, more = steps[earlier]
        await postmark.refused(code, "POST", ONE, {**MAIL, **steps[then][1], **more})
    assert await count(postmark) == 0


async def test_another_servers_templates_look_unknown(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/templates", WELCOME)
    foreign = {"headers": {SERVER_TOKEN: postmark.house.foreign_key}}
    assert await postmark.refused(1101, "POST", ONE, MAIL, **foreign) == UNKNOWN_ALIAS
    number = {**MAIL, "TemplateId": made["TemplateId"]}
    assert await postmark.refused(1101, "POST", ONE, number, **foreign) == UNKNOWN_ID
    await postmark.ok("DELETE", "/templates/welcome")
    assert await postmark.refused(1101, "POST", ONE, number) == UNKNOWN_ID


async def test_the_test_token_checks_and_stores_nothing(postmark: Postmark) -> None:
    told = await postmark.ok("POST", ONE, MAIL, token=TEST)
    assert (told["ErrorCode"], told["Message"]) == (0, "Test job accepted")
    (told,) = await postmark.ok("POST", MANY, {"Messages": [MAIL]}, token=TEST.lower())
    assert told["Message"] == "Test job accepted"
    for code, more in (
        (300, {"To": "nobody"}),
        (1101, {"TemplateAlias": ""}),
        (1120, {"TemplateModel": None}),
        (1123, {"Subject": "x"}),
    ):
        await postmark.refused(code, "POST", ONE, {**MAIL, **more}, token=TEST)
    await postmark.refused(10, "GET", "/templates?count=1&offset=0", token=TEST)
    assert await count(postmark) == 0


async def test_t1_t2_t3_hostile_models_are_bounded_and_stay_values(postmark: Postmark) -> None:
    await postmark.ok(
        "POST",
        "/templates",
        {
            "Name": "loops",
            "Alias": "loops",
            "Subject": "s {{s}}",
            "TextBody": "{{#each a}}{{#each ../../a}}{{#each ../../../../a}}{{.}}"
            + "{{/each}}" * 3
            + "{{x}}",
        },
    )
    mail = {**MAIL, "TemplateAlias": "loops"}
    for code, model in (
        (300, {"a": [1] * 100}),  # a million steps
        (300, {"a": ["x" * 200_000] * 4}),  # 12,800,000 characters
        (1122, {"a": {"b": 1}}),
        (1122, {"a": "text"}),
        (300, {"s": "a\r\nBcc: eve@example.net"}),
    ):
        await postmark.refused(code, "POST", ONE, {**mail, "TemplateModel": model})
    assert await count(postmark) == 0
    huge = int("9" * 300)
    content = await said(
        postmark,
        await postmark.ok(
            "POST", ONE, {**mail, "TemplateModel": {"a": [huge], "x": "{{a}} {{{x}}}", "s": None}}
        ),
    )
    assert content.text == "9" * 300 + "{{a}} {{{x}}}"
    deep: object = 1
    for _ in range(66):
        deep = {"a": deep}
    await postmark.refused(402, "POST", ONE, {**mail, "TemplateModel": deep})


async def test_w17_numbers_of_any_length(postmark: Postmark) -> None:
    await postmark.ok("POST", "/templates", WELCOME)
    headers = {SERVER_TOKEN: postmark.house.server_key}
    for digits, codes in ((1000, {0}), (4300, {300, 402}), (4301, {402, 1122}), (400_000, {402, 1122})):
        mail = json.dumps(MAIL | {"TemplateModel": {"name": "it"}}).replace('"it"', "9" * digits)
        answer = await postmark.house.http.post(ONE, content=mail, headers=headers)
        assert answer.json()["ErrorCode"] in codes, (digits, answer.text)


async def test_t2_a_batch_has_one_allowance(postmark: Postmark) -> None:
    """Each of these alone is within its own bounds; together they would be 90 MB."""
    body = "x" * 100_000
    await postmark.ok(
        "POST",
        "/templates",
        {**WELCOME, "HtmlBody": "", "TextBody": "{{#each a}}" + body + "{{/each}}"},
    )
    mail = {**MAIL, "TemplateModel": {"a": [1] * 45}}
    told = await postmark.ok("POST", MANY, {"Messages": [mail] * 20}, token=TEST)
    assert {one["ErrorCode"] for one in told} == {0}  # the test token has no templates
    told = await postmark.ok("POST", MANY, {"Messages": [{**mail, "From": "a@stranger.example"}] * 20})
    assert {one["ErrorCode"] for one in told} == {400, 300}
    assert sum(one["ErrorCode"] == 400 for one in told) <= 11
