"""Templates and models made to harm: T1, T2, R1 and what is deep, long, cyclic or odd."""

from __future__ import annotations

import time
from typing import Any

import pytest

from postroom.templates.render import Limits, RenderFailed, render
from postroom.templates.suggest import suggested_model
from postroom.templates.syntax import MAX_CHARACTERS, MAX_DEPTH, MAX_TAGS, TemplateInvalid, parse, within


def complaint(source: str) -> str:
    """All that is wrong, or ""."""
    try:
        parse(source)
    except TemplateInvalid as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "source",
    [
        "{{7*7}}",
        "{% include '/etc/passwd' %}",
        "${7*7}",
        "<%= 7*7 %>",
        "#{7*7}",
        "{{a|upper}}",
        "{{a[0]}}",
        "{{a()}}",
    ],
)
def test_t1_what_looks_like_code_is_text_or_refused(source: str) -> None:
    assert complaint(source) or render(parse(source), {"a": "x"}, escape=False) == source


@pytest.mark.parametrize(
    "path",
    [
        "env", "self", "this", "__class__", "a.__class__.__mro__", "a.__doc__", "a.upper", "a.format",
        "l.append", "l.__len__", "d.keys", "d.items", "n.real", "model", "context.parent", "value",
        "parent", "../parent",
    ],
)  # fmt: skip
def test_t1_no_attribute_variable_or_file_is_read(path: str) -> None:
    model = {"a": "text", "l": [1], "d": {"x": 1}, "n": 5}
    assert render(parse(f"[{{{{{path}}}}}{{{{#{path}}}}}x{{{{/{path}}}}}]"), model, escape=False) == "[]"


def test_t1_only_what_json_can_say_is_read() -> None:
    class Trap(dict[str, Any]):
        def __missing__(self, key: str) -> str:
            raise AssertionError(f"looked up {key}")

        def __str__(self) -> str:
            raise AssertionError("printed")

    class Shown:
        secret = "seen"

        def __str__(self) -> str:
            raise AssertionError("printed")

    source = "[{{a.x}}{{a}}{{b.secret}}{{b}}{{c}}]"
    assert render(parse(source), {"a": Trap(), "b": Shown(), "c": b"bytes"}, escape=True) == "[]"


def test_t1_values_are_not_read_as_templates() -> None:
    model = {"a": "{{b}}{{{@content}}}{{#b}}", "b": "seen"}
    layout = parse("{{{a}}}{{{@content}}}", layout=True)
    assert render(within(layout, parse("{{{a}}}")), model, escape=True) == model["a"] * 2


@pytest.mark.parametrize(
    "body", ["", "x", "{{.}}", "{{! c }}", "{{#.}}{{/.}}", "{{a.a.a.a.a}}", "{{#each a}}{{/each}}"]
)
def test_t2_a_million_loops_are_cut(body: str) -> None:
    source = "{{#each a}}{{#each ../../a}}" + body + "{{/each}}{{/each}}"
    with pytest.raises(RenderFailed, match="more than 200,000 steps") as caught:
        render(parse(source), {"a": [1] * 1000}, escape=True)
    assert caught.value.problem.line == 0


def test_t2_every_name_of_a_path_is_a_step() -> None:
    source = "{{#each a}}{{" + ".".join("b" * 400) + "}}{{/each}}"
    with pytest.raises(RenderFailed, match="more than 200,000 steps"):
        render(parse(source), {"a": [1] * 500}, escape=True)


def test_t2_one_flat_list_of_a_million_is_cut() -> None:
    with pytest.raises(RenderFailed, match="steps"):
        render(parse("{{#each a}}{{/each}}"), {"a": [0] * 1_000_000}, escape=True)


def test_t2_a_gigabyte_is_cut() -> None:
    template, model = parse("{{#each a}}{{../../b}}{{/each}}"), {"a": [1] * 1000, "b": "<" * 1_000_000}
    with pytest.raises(RenderFailed, match="longer than 5,000,000 characters"):
        render(template, model, escape=True)


def test_t2_the_bound_is_of_the_escaped_result_and_exact() -> None:
    template, limits = parse("{{a}}b"), Limits(characters=9)
    assert render(template, {"a": "<&"[:1] * 2}, escape=True, limits=limits) == "&lt;&lt;b"
    with pytest.raises(RenderFailed, match="longer than 9 characters"):
        render(template, {"a": "<<x"}, escape=True, limits=limits)
    assert render(template, {"a": "<<x"}, escape=False, limits=limits) == "<<xb"


def test_the_bound_of_steps_is_exact() -> None:
    template = parse("{{#each a}}x{{.}}{{/each}}")  # 2 for the list, 3 for each item
    assert render(template, {"a": [1] * 4}, escape=True, limits=Limits(steps=14)) == "x1" * 4
    with pytest.raises(RenderFailed, match="more than 14 steps"):
        render(template, {"a": [1] * 5}, escape=True, limits=Limits(steps=14))


def test_blocks_nest_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> str:
        return "{{#a}}{{#each b}}" * (depth // 2) + "x" + "{{/each}}{{/a}}" * (depth // 2)

    deepest = parse(nested(MAX_DEPTH))
    layout = parse(nested(MAX_DEPTH).replace("x", "{{{@content}}}"), layout=True)
    model: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        model = {"a": {"b": [model]}}
    assert render(within(layout, deepest), model, escape=True) == "x"
    suggested_model([within(layout, deepest)])
    for source in (nested(MAX_DEPTH + 2), "{{#a}}{{#b}}" * 100_000, "{{#each a}}" * 100_000):
        with pytest.raises(TemplateInvalid, match="nested more than 100 deep"):
            parse(source)


def test_deep_models_need_no_recursion() -> None:
    model: dict[str, Any] = {}
    for _ in range(100_000):
        model = {"a": model}
    assert render(parse("{{a.a.a.a}}{{#a}}x{{/a}}"), model, escape=True) == "x"


def test_a_model_that_holds_itself_ends() -> None:
    model: dict[str, Any] = {"a": []}
    model["a"].append(model)
    with pytest.raises(RenderFailed, match="steps"):
        render(
            parse("{{#each a}}" * 50 + "x" * 10 + "{{/each}}" * 50),
            {"a": [model] * 2},
            escape=True,
            limits=Limits(steps=50),
        )
    assert render(parse("{{a}}{{#each a}}{{a}}{{/each}}"), model, escape=True) == ""


def test_too_long_and_too_many_tags() -> None:
    assert len(parse("x" * MAX_CHARACTERS).body) == 1
    with pytest.raises(TemplateInvalid, match="longer than 5,000,000 characters"):
        parse("x" * (MAX_CHARACTERS + 1))
    assert len(parse("{{a}}" * MAX_TAGS).body) == MAX_TAGS
    with pytest.raises(TemplateInvalid, match="more than 20,000 tags"):
        parse("{{a}}" * (MAX_TAGS + 1))


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        "{{",
        "{{{",
        "{{a",
        "{{{a",
        "{{a}",
        "}",
        "{{a}} ",
        "{{/a}}",
        "{{#a}}",
        "{{#each a}}{{/each}}",
        "{{@}}\n",
        "a\n",
    ],
)
def test_r1_reading_takes_time_by_length(unit: str) -> None:
    """R1: any of these four megabytes is read, or refused, without going over it again and again."""
    source = unit * (4_000_000 // len(unit))
    began = time.process_time()
    assert len(complaint(source)) < 20_000
    assert time.process_time() - began < 2  # quadratic would be hours


def test_r1_one_tag_of_five_megabytes() -> None:
    for inner in (
        "." * 4_000_000,
        "../" * 1_000_000,
        "a." * 2_000_000,
        " " * 4_000_000,
        "é" * 4_000_000,
        "!" * 4_000_000,
    ):
        began = time.process_time()
        assert len(complaint("{{" + inner + "}}")) < 1000
        assert time.process_time() - began < 2


def test_nulls_surrogates_and_other_odd_characters_go_through() -> None:
    odd = "\0\x01\x1b\x7f\u0085\u200b\u2028\u202e\ufeff\ud800\U0001f600"
    assert render(parse(odd + "{{a}}"), {"a": odd}, escape=True) == odd * 2
    with pytest.raises(TemplateInvalid):
        parse("{{a\0}}")
    with pytest.raises(TemplateInvalid):
        parse("\ud800{{\ud800}}")


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    with pytest.raises(RenderFailed, match="too many digits"):
        render(parse("{{a}}"), {"a": 10**10_000}, escape=True)
