"""What a template and a model make together."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.templates.render import RenderFailed, printed, render
from postroom.templates.syntax import parse, within

Model = dict[str, Any]  # a test's own JSON


def html(source: str, model: Model) -> str:
    return render(parse(source), model, escape=True)


@pytest.mark.parametrize(
    ("source", "model", "result"),
    [
        ("Hello {{ person.first_name }}", {"person": {"first_name": "Ada"}}, "Hello Ada"),
        ("{{#person}}{{first}} {{last}}{{/person}}", {"person": {"first": "A", "last": "B"}}, "A B"),
        # names are looked up in the current value alone
        ("{{#a}}[{{name}}|{{../name}}]{{/a}}", {"a": {"x": 1}, "name": "N"}, "[|N]"),
        # each name of a path is a context: "../" goes back over one
        ("{{#a.b}}{{../x}}{{../../x}}{{/a.b}}", {"x": 1, "a": {"x": 2, "b": {"y": 0}}}, "21"),
        # an item is two: the list, then itself
        ("{{#each a}}{{.}}{{../x}}{{../../x}} {{/each}}", {"a": [1, 2], "x": 9}, "19 29 "),
        (
            "{{#each a.b}}{{n}}{{../../x}}{{../../../x}} {{/each}}",
            {"x": 1, "a": {"x": 2, "b": [{"n": 7}, {"n": 8}]}},
            "721 821 ",
        ),
        # surplus "../" at the root is passed over
        ("{{../../../a}}", {"a": 1}, "1"),
        ("{{#a}}{{../../../../b}}{{/a}}", {"a": 1, "b": 2}, "2"),
        ("{{#a}}{{#../b}}{{../c}}{{/../b}}{{/a}}", {"a": 1, "b": 2, "c": 3}, "3"),
        # a block of "." makes no context
        ("{{#a}}{{#.}}{{.}}{{../b}}{{/.}}{{/a}}", {"a": 1, "b": 2}, "12"),
        # a list is scoped once onto itself, not gone through
        ("{{#a}}x{{.}}{{n}}{{/a}}", {"a": [{"n": 1}, {"n": 2}]}, "x"),
        ("{{#a}}{{#each .}}{{n}}{{/each}}{{/a}}", {"a": [{"n": 1}, {"n": 2}]}, "12"),
        # items have no names, lists no numbers
        ("{{a.0}}{{a.length}}", {"a": ["x"]}, ""),
        ("{{#each a}}{{#each .}}{{.}}{{/each}};{{/each}}", {"a": [[1, 2], [3]]}, "12;3;"),
        ("{{#each a}}{{^.}}-{{/.}}{{#.}}{{.}}{{/.}}{{/each}}", {"a": [0, 5, None, "", "x"]}, "-5--x"),
        # what is missing is nothing, all the way
        ("[{{a}}{{a.b.c}}{{{a}}}{{#a.b}}x{{/a.b}}{{#each a.b}}x{{/each}}]", {}, "[]"),
        ("[{{a}}{{a.b}}]", {"a": None}, "[]"),
        ("[{{a.b}}]", {"a": "text"}, "[]"),
        # inside the inverted half the context is what is not there
        ("{{^a}}{{../b}}{{b}}{{/a}}", {"b": 1}, "1"),
        ("{{^a}}{{#../b}}{{x}}{{/../b}}{{/a}}", {"a": False, "b": {"x": 1}}, "1"),
        ("{{#a}}yes{{^a}}no{{/a}}", {"a": 1}, "yes"),
        ("{{#a}}yes{{^a}}no{{/a}}", {"a": 0}, "no"),
        ("{{^a}}no{{#a}}yes{{/a}}", {"a": "1"}, "yes"),
        # objects and arrays are not printed
        ("[{{a}}{{{a}}}{{b}}{{&b}}]", {"a": {"x": 1}, "b": [1]}, "[]"),
        ("{{a}} {{b}}", {"a": True, "b": False}, "True False"),
        ("{{!no}}{{a}}{{! {no} }}", {"a": 1}, "1{{! {no} }}"),
        ("{{Name}}{{name}}", {"name": 1}, "1"),
        ("{{имя}} {{名前}}", {"имя": "Ада", "名前": "愛"}, "Ада 愛"),
    ],
)
def test_rules(source: str, model: Model, result: str) -> None:
    assert html(source, model) == result


@pytest.mark.parametrize("value", [None, False, 0, 0.0, -0.0, "", [], {}])
def test_what_is_not_there(value: object) -> None:
    assert html("{{#a}}yes{{/a}}{{^a}}no{{/a}}{{#each a}}item{{/each}}", {"a": value}) == "no"


@pytest.mark.parametrize("value", [True, 1, -1, 0.1, " ", "0", "false", [0], [None], {"x": None}])
def test_what_is_there(value: object) -> None:
    assert html("{{#a}}yes{{/a}}{{^a}}no{{/a}}", {"a": value}) == "yes"


@pytest.mark.parametrize("value", [True, 1, "text", {"x": 1}])
def test_each_of_what_is_no_list_fails_and_says_where(value: object) -> None:
    with pytest.raises(RenderFailed, match="is used like a list") as caught:
        html("x\n {{#each a}}{{/each}}", {"a": value})
    assert (caught.value.problem.line, caught.value.problem.character) == (2, 2)


def test_t3_values_are_escaped_in_html_and_nowhere_else() -> None:
    template, model = parse("{{a}} {{{a}}} {{&a}} <{{b}}>"), {"a": '<a href="x">&\'é\u00a0', "b": "&lt;"}
    raw = model["a"]
    escaped = "&lt;a href=&quot;x&quot;&gt;&amp;&#39;é\u00a0"
    assert render(template, model, escape=True) == f"{escaped} {raw} {raw} <&amp;lt;>"
    assert render(template, model, escape=False) == f"{raw} {raw} {raw} <&lt;>"


def test_t4_what_is_missing_is_nothing_and_never_none() -> None:
    model = {"a": None, "b": [None], "c": {"d": None}}
    assert html("[{{a}}{{x}}{{#each b}}{{.}}{{/each}}{{c.d}}{{c.e.f}}]", model) == "[]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-7, "-7"), (2**63, "9223372036854775808"), (1.0, "1"), (10.50, "10.5"), (-0.0, "0"),
        (0.1, "0.1"), (1e14, "100000000000000"), (123456789012345.6, "123456789012345.6"), (1e15, "1E+15"),
        (1.5e20, "1.5E+20"), (1e100, "1E+100"), (0.0001, "0.0001"), (0.00001, "1E-05"), (-2.5e-7, "-2.5E-07"),
        (5e-324, "5E-324"), (float("inf"), ""), (float("nan"), ""), (True, "True"), (None, ""),
        ({}, ""), ([1], ""),
    ],
)  # fmt: skip
def test_numbers_are_printed_as_postmark_does(value: object, text: str) -> None:
    assert printed(value) == text


def test_layout_and_content_have_the_same_model() -> None:
    layout = parse("<h1>{{title}}</h1>{{{@content}}}<i>{{company.name}}</i>", layout=True)
    whole = within(layout, parse("{{#company}}{{name}}: {{../title}}{{/company}}"))
    model = {"title": "T&T", "company": {"name": "C"}}
    assert render(whole, model, escape=True) == "<h1>T&amp;T</h1>C: T&amp;T<i>C</i>"


def test_the_content_is_in_the_context_of_its_place() -> None:
    layout = parse("{{#each rows}}<{{{@content}}}>{{/each}}", layout=True)
    assert render(within(layout, parse("{{n}}")), {"rows": [{"n": 1}, {"n": 2}]}, escape=True) == "<1><2>"


def test_a_layout_by_itself_keeps_its_placeholder() -> None:
    assert render(parse("a{{{ @content }}}{{b}}", layout=True), {"b": 1}, escape=True) == "a{{{ @content }}}1"


def test_the_unsubscribe_link_is_left_where_it_is() -> None:
    source = '<a href="{{{ pm:unsubscribe }}}">{{a}}</a>{{{ pm:unsubscribe label="x" }}}'
    assert html(source, {"a": 1}) == source.replace("{{a}}", "1")


def test_a_parsed_template_is_used_again() -> None:
    template = parse("{{#each a}}{{.}}{{/each}}")
    assert [render(template, {"a": [n]}, escape=True) for n in (1, 2)] == ["1", "2"]
