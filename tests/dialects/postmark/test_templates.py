"""Templates: made, shown, changed, deleted, tried; layouts; every code and what hostile sources meet."""

from __future__ import annotations

from typing import Any

from postroom.actions.template_rules import MOST_TEMPLATES
from tests.dialects.postmark.conftest import SERVER_TOKEN, Postmark

WELCOME: dict[str, Any] = {
    "Name": "Welcome",
    "Alias": "welcome",
    "Subject": "Hello {{name}}",
    "HtmlBody": "<p>Hi {{name}}</p>",
    "TextBody": "Hi {{name}}",
}
LAYOUT: dict[str, Any] = {
    "Name": "Frame",
    "Alias": "frame",
    "TemplateType": "Layout",
    "HtmlBody": "<html><body>{{{@content}}}<i>{{company}}</i></body></html>",
    "TextBody": "{{{ @content }}}\n-- \n{{company}}",
}
HEAD = {"TemplateId", "Name", "Active", "Alias", "TemplateType", "LayoutTemplate"}
UNKNOWN_ALIAS = "The Template's 'Alias' associated with this request is not valid or was not found."
UNKNOWN_ID = "The 'TemplateId' associated with this request is not valid or was not found."


async def test_a_template_from_its_making_to_its_deletion(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/templates/", WELCOME)
    assert made == {
        "TemplateId": made["TemplateId"],
        "Name": "Welcome",
        "Active": True,
        "Alias": "welcome",
        "TemplateType": "Standard",
        "LayoutTemplate": None,
    }
    number = made["TemplateId"]
    whole = await postmark.ok("GET", f"/templates/{number}")
    assert whole == made | {
        "AssociatedServerId": postmark.house.channel,
        "Subject": WELCOME["Subject"],
        "HtmlBody": WELCOME["HtmlBody"],
        "TextBody": WELCOME["TextBody"],
    }
    assert await postmark.ok("GET", "/Templates/WELCOME/") == whole
    changed = await postmark.ok(
        "PUT", "/templates/welcome", {"name": "Hello", "HTMLBody": "", "Subject": None, "Alias": "hi.there"}
    )
    assert changed == made | {"Name": "Hello", "Alias": "hi.there"}
    whole = await postmark.ok("GET", "/templates/hi.there")
    assert (whole["HtmlBody"], whole["TextBody"], whole["Subject"]) == (
        None,
        WELCOME["TextBody"],
        WELCOME["Subject"],
    )
    assert (await postmark.ok("PUT", f"/templates/{number}", {"Alias": ""}))["Alias"] is None
    gone = await postmark.ok("DELETE", f"/templates/{number}")
    assert gone == {"ErrorCode": 0, "Message": f"Template {number} removed."}
    # Its number still shows it; nothing else works with it.
    assert (await postmark.ok("GET", f"/templates/{number}"))["Active"] is False
    assert (await postmark.ok("GET", "/templates?count=10&offset=0"))["TotalCount"] == 0
    for method, body in (("PUT", {"Name": "x"}), ("DELETE", None)):
        assert await postmark.refused(1101, method, f"/templates/{number}", body) == UNKNOWN_ID


async def test_lists_by_type_and_layout_page_by_page(postmark: Postmark) -> None:
    await postmark.ok("POST", "/templates", LAYOUT)
    for number in range(3):
        alias = f"inside-{number}"
        await postmark.ok(
            "POST", "/templates", {**WELCOME, "Alias": alias, "LayoutTemplate": "FRAME" if number else None}
        )
    for query, aliases, total in (
        ("count=500&offset=0", ["frame", "inside-0", "inside-1", "inside-2"], 4),
        ("count=2&offset=1", ["inside-0", "inside-1"], 4),
        ("count=9&offset=0&templatetype=layout", ["frame"], 1),
        ("count=9&offset=0&TemplateType=Standard", ["inside-0", "inside-1", "inside-2"], 3),
        ("count=9&offset=0&templateType=All&layoutTemplate=frame", ["inside-1", "inside-2"], 2),
        ("count=9&offset=0&layoutTemplate=nothing", [], 0),
    ):
        listed = await postmark.ok("GET", f"/templates?{query}")
        assert ([one["Alias"] for one in listed["Templates"]], listed["TotalCount"]) == (aliases, total)
        assert all(set(one) == HEAD for one in listed["Templates"])
    for query in ("", "count=0&offset=0", "count=501&offset=0", "count=1&offset=-1", "count=x&offset=0"):
        await postmark.refused(1100, "GET", f"/templates?{query}")
    await postmark.refused(1100, "GET", "/templates?count=1&offset=0&TemplateType=Letter")


async def test_a_layout_stays_while_it_is_used(postmark: Postmark) -> None:
    await postmark.ok("POST", "/templates", LAYOUT)
    made = await postmark.ok("POST", "/templates", {**WELCOME, "LayoutTemplate": "frame"})
    assert made["LayoutTemplate"] == "frame"
    await postmark.refused(1130, "DELETE", "/templates/frame")
    await postmark.refused(1130, "PUT", "/templates/frame", {"Alias": ""})
    # Another alias of the layout is the template's to show, too.
    await postmark.ok("PUT", "/templates/frame", {"Alias": "border"})
    assert (await postmark.ok("GET", "/templates/welcome"))["LayoutTemplate"] == "border"
    assert (await postmark.ok("PUT", "/templates/welcome", {"LayoutTemplate": None}))[
        "LayoutTemplate"
    ] is None
    await postmark.ok("DELETE", "/templates/border")


async def test_what_is_wrong_has_its_code(postmark: Postmark) -> None:
    await postmark.ok("POST", "/templates", LAYOUT)
    await postmark.ok("POST", "/templates", {**WELCOME, "Alias": "taken"})
    for code, more, says in (
        (1120, {"Name": ""}, "'Name' is required."),
        (1120, {"Name": " \u200b"}, "'Name' is required."),
        (1120, {"Subject": None}, "'Subject' is required."),
        (1120, {"HtmlBody": "", "TextBody": None}, "'HtmlBody' is required."),
        (1121, {"Name": "n" * 256}, "'Name' is too long (maximum is 255 characters)."),
        (1121, {"Alias": "a" * 101}, "'Alias' is too long"),
        (1121, {"Subject": "s" * 2001}, "'Subject' is too long"),
        (1121, {"TextBody": "t" * (512 * 1024 + 1)}, "'TextBody' is too long"),
        (1122, {"Alias": "1st"}, "'Alias' must begin with a letter"),
        (1122, {"Alias": "a b"}, "'Alias' must begin with a letter"),
        (1122, {"Alias": "Taken"}, "'Alias' is in use by another template."),
        (1122, {"TemplateType": "Letter"}, "'TemplateType' is not valid."),
        (1122, {"Name": "a\r\nb"}, "'Name' contains characters"),
        (1122, {"Subject": "a\nb"}, "'Subject' contains characters"),
        (1122, {"TextBody": "a\0b"}, "'TextBody' contains characters"),
        (1122, {"HtmlBody": "<p>\n {{#a}}"}, "'HtmlBody' is not a valid template (line 2, character 2): "),
        (1122, {"Subject": "{{a b}}"}, "'Subject' is not a valid template (line 1, character 1): "),
        (1122, {"TextBody": "{{{@content}}}"}, "'TextBody' is not a valid template"),
        (1101, {"LayoutTemplate": "nothing"}, "The 'LayoutTemplate' associated"),
        (1101, {"LayoutTemplate": "taken"}, "The 'LayoutTemplate' associated"),
        (403, {"Name": ["x"]}, "'Name'"),
        (403, {"HtmlBody": {}}, "'HtmlBody'"),
    ):
        body = {**WELCOME, **more}
        assert says in await postmark.refused(code, "POST", "/templates", body), more
        if code != 1120 and more != {"Alias": "Taken"}:  # that is its own
            assert says in await postmark.refused(code, "PUT", "/templates/taken", more), more
    for code, more in (
        (1123, {"Subject": "x"}),
        (1123, {"LayoutTemplate": "frame"}),
        (1122, {"Alias": "frame"}),
    ):
        await postmark.refused(code, "POST", "/templates", {**LAYOUT, "Alias": "other", **more})
    for nothing in (None, {}, {"Unknown": 1}):
        await postmark.refused(1109, "POST", "/templates", nothing)
        await postmark.refused(1109, "PUT", "/templates/taken", nothing)
    await postmark.refused(402, "POST", "/templates", [WELCOME])
    for source in ("no placeholder", "{{{@content}}} {{{@content}}}"):
        said = await postmark.refused(
            1131, "POST", "/templates", {**LAYOUT, "Alias": "other", "TextBody": source}
        )
        assert "The layout content placeholder must be present" in said
    await postmark.refused(1122, "PUT", "/templates/taken", {"TemplateType": "Layout"})
    await postmark.refused(1120, "PUT", "/templates/taken", {"HtmlBody": "", "TextBody": ""})
    await postmark.ok("PUT", "/templates/taken", {"TemplateType": "standard", "Alias": "Taken"})


async def test_a_template_that_is_not_there(postmark: Postmark) -> None:
    for path, said in (
        ("nothing", UNKNOWN_ALIAS),
        ("1" * 30, UNKNOWN_ID),
        ("0", UNKNOWN_ID),
        ("-1", UNKNOWN_ALIAS),
        ("%00", UNKNOWN_ALIAS),
        ("%27%20OR%201=1", UNKNOWN_ALIAS),
    ):
        for method, body in (("GET", None), ("PUT", {"Name": "x"}), ("DELETE", None)):
            assert await postmark.refused(1101, method, f"/templates/{path}", body) == said


async def test_another_servers_templates_are_unknown(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/templates", WELCOME)
    await postmark.ok("POST", "/templates", LAYOUT)
    foreign = {"headers": {SERVER_TOKEN: postmark.house.foreign_key}}
    for name, said in ((made["TemplateId"], UNKNOWN_ID), ("welcome", UNKNOWN_ALIAS)):
        for method, body in (("GET", None), ("PUT", {"Name": "x"}), ("DELETE", None)):
            assert await postmark.refused(1101, method, f"/templates/{name}", body, **foreign) == said
    await postmark.refused(1101, "POST", "/templates", {**WELCOME, "LayoutTemplate": "frame"}, **foreign)
    await postmark.refused(
        1101, "POST", "/templates/validate", {"TextBody": "x", "LayoutTemplate": "frame"}, **foreign
    )
    await postmark.ok("POST", "/templates", WELCOME, **foreign)  # the alias is free there


async def test_a_server_has_a_hundred(postmark: Postmark) -> None:
    first = await postmark.ok("POST", "/templates", {**WELCOME, "Alias": None})
    for _ in range(MOST_TEMPLATES - 1):
        await postmark.ok("POST", "/templates", {**WELCOME, "Alias": None})
    await postmark.refused(1105, "POST", "/templates", WELCOME)
    await postmark.ok("DELETE", f"/templates/{first['TemplateId']}")
    await postmark.ok("POST", "/templates", WELCOME)


async def test_a_template_is_tried(postmark: Postmark) -> None:
    await postmark.ok("POST", "/templates", LAYOUT)
    told = await postmark.ok(
        "POST",
        "/templates/validate",
        {
            "Subject": "{{name}} & {{#each items}}{{what}}{{/each}}",
            "HtmlBody": "<style>p { color: red }</style><p>{{name}}</p>",
            "TextBody": "{{#broken}}",
            "TestRenderModel": {"name": "<Ann>"},
            "LayoutTemplate": "frame",
        },
    )
    assert told["AllContentIsValid"] is False
    assert told["Subject"] == {
        "ContentIsValid": True,
        "ValidationErrors": [],
        "RenderedContent": "<Ann> & what_Value",
    }
    html = told["HtmlBody"]["RenderedContent"]
    assert '<p style="color: red;">&lt;Ann&gt;</p>' in html
    assert "<i>company_Value</i>" in html
    assert told["TextBody"]["ContentIsValid"] is False
    assert told["TextBody"]["RenderedContent"] is None
    (problem,) = told["TextBody"]["ValidationErrors"]
    assert (problem["Line"], problem["CharacterPosition"]) == (1, 1)
    assert told["SuggestedTemplateModel"] == {
        "name": "<Ann>",
        "items": [{"what": "what_Value"}],
        "company": "company_Value",
    }
    plain = await postmark.ok(
        "POST",
        "/templates/validate",
        {
            "HtmlBody": "<style>p { color: red }</style><p>",
            "InlineCssForHtmlTestRender": False,
            "TestRenderModel": [],
        },
    )
    assert plain == {
        "AllContentIsValid": True,
        "Subject": None,
        "HtmlBody": {
            "ContentIsValid": True,
            "ValidationErrors": [],
            "RenderedContent": "<style>p { color: red }</style><p>",
        },
        "TextBody": None,
        "SuggestedTemplateModel": {},
    }
    layout = {"TemplateType": "Layout", "HtmlBody": "<p>"}
    (problem,) = (await postmark.ok("POST", "/templates/validate", layout))["HtmlBody"]["ValidationErrors"]
    assert "The layout content placeholder must be present" in problem["Message"]


async def test_what_cannot_be_tried(postmark: Postmark) -> None:
    path = "/templates/validate"
    for code, body in (
        (1109, None),
        (1109, {"TemplateType": "Layout"}),
        (402, []),
        (403, {"TextBody": "x", "TestRenderModel": "Ann"}),
        (403, {"TextBody": "x", "TestRenderModel": [1]}),
        (403, {"TextBody": "x", "InlineCssForHtmlTestRender": "perhaps"}),
        (1121, {"TextBody": "x" * (512 * 1024 + 1)}),
        (1123, {"TextBody": "x", "TemplateType": "Layout", "Subject": "x"}),
        (1123, {"TextBody": "x", "TemplateType": "Layout", "LayoutTemplate": "x"}),
        (1122, {"TextBody": "x", "TemplateType": "Letter"}),
    ):
        await postmark.refused(code, "POST", path, body)


HOSTILE: tuple[tuple[str, dict[str, object]], ...] = (
    ("{{#each a}}{{#each ../../a}}{{#each ../../../../a}}{{.}}{{/each}}{{/each}}{{/each}}", {"a": [1] * 400}),
    ("{{#each a}}{{b}}{{/each}}", {"a": {"b": 1}}),
    ("{{a}}", {"a": 10**300}),
    ("{{#a}}" * 101 + "{{/a}}" * 101, {}),
    ("{{a}}" * 20_001, {}),
    ("{{" * 100_000, {}),
    ("{{__class__.__init__}}{{self}}{{env}}{{7*7}}", {}),
)


async def test_t1_t2_hostile_sources_are_bounded_and_reach_nothing(postmark: Postmark) -> None:
    for source, model in HOSTILE:
        told = await postmark.ok(
            "POST", "/templates/validate", {"TextBody": source, "TestRenderModel": model}
        )
        said = told["TextBody"]
        assert said["ContentIsValid"] == (said["ValidationErrors"] == [])
        assert len(said["RenderedContent"] or "") < 1_000_000
        assert "<class" not in (said["RenderedContent"] or "")


async def test_w1_a_model_as_deep_as_json_may_be(postmark: Postmark) -> None:
    model: object = "deep"
    for _ in range(61):
        model = {"a": model}
    path = ".".join("a" * 61)
    told = await postmark.ok(
        "POST", "/templates/validate", {"TextBody": f"{{{{{path}}}}}", "TestRenderModel": model}
    )
    assert told["TextBody"]["RenderedContent"] == "deep"
    for _ in range(5):
        model = {"a": model}
    await postmark.refused(402, "POST", "/templates/validate", {"TextBody": "x", "TestRenderModel": model})


async def test_css_that_is_too_much_work_is_said_so(postmark: Postmark) -> None:
    body = "<style>p { color: red }</style>" + "<div>" * 20_000
    told = await postmark.ok("POST", "/templates/validate", {"HtmlBody": body})
    (problem,) = told["HtmlBody"]["ValidationErrors"]
    assert problem["Message"].startswith("The CSS cannot be moved")
