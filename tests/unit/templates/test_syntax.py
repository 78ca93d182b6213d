"""What is a template, and what is said where it is none."""

from __future__ import annotations

import pytest

from postroom.templates.syntax import (
    MAX_PATH,
    MAX_PROBLEMS,
    Each,
    PlaceholderInvalid,
    Problem,
    Section,
    Slot,
    Template,
    TemplateInvalid,
    Text,
    Value,
    parse,
    within,
)


def problems(source: str, *, layout: bool = False) -> list[tuple[int, int, str]]:
    """Line, character and the sentence of all that is wrong."""
    with pytest.raises(TemplateInvalid) as caught:
        parse(source, layout=layout)
    return [(one.line, one.character, one.message) for one in caught.value.problems]


def places(source: str) -> list[tuple[int, int]]:
    return [place[:2] for place in problems(source)]


@pytest.mark.parametrize(
    ("source", "node"),
    [
        ("{{a}}", Value(("a",), escaped=True)),
        ("{{ a.b_2 }}", Value(("a", "b_2"), escaped=True)),
        ("{{\n\ta\n}}", Value(("a",), escaped=True)),
        ("{{{ a }}}", Value(("a",), escaped=False)),
        ("{{&a}}", Value(("a",), escaped=False)),
        ("{{& a}}", Value(("a",), escaped=False)),
        ("{{{&a}}}", Value(("a",), escaped=False)),
        ("{{.}}", Value((), escaped=True)),
        ("{{ }}", Value((), escaped=True)),
        ("{{../a}}", Value(("../", "a"), escaped=True)),
        ("{{../../a.b}}", Value(("../", "../", "a", "b"), escaped=True)),
        ("{{../.a}}", Value(("../", "a"), escaped=True)),
        ("{{.a.}}", Value(("a",), escaped=True)),
        ("{{a../b}}", Value(("a", "../", "b"), escaped=True)),
        ("{{имя.名前.naïve.हिन्दी}}", Value(("имя", "名前", "naïve", "हिन्दी"), escaped=True)),
        ("{{0}}", Value(("0",), escaped=True)),
        ("{{#a}}x{{/a}}", Section(("a",), False, (Text("x"),))),
        ("{{# a }}x{{/ a }}", Section(("a",), False, (Text("x"),))),
        ("{{##a}}x{{//a}}", Section(("a",), False, (Text("x"),))),
        ("{{^a}}x{{/a}}", Section(("a",), True, (Text("x"),))),
        ("{{#.}}{{/.}}", Section((), False, ())),
        ("{{#each a}}x{{/each}}", Each(("a",), (Text("x"),), "{{#each a}}", 1, 1)),
        ("{{#each  a.b }}{{/each}}", Each(("a", "b"), (), "{{#each  a.b }}", 1, 1)),
        ("{{#each .}}{{/each}}", Each((), (), "{{#each .}}", 1, 1)),
    ],
)
def test_tags(source: str, node: object) -> None:
    assert parse(source).body == (node,)


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ("", ()),
        ("{{! a comment\n of {two lines} }}", None),
        ("{{! a comment\n of two lines }}", ()),
        ("a{{!}}b", (Text("a"), Text("b"))),
        ("{{}} {{{}}} {a} { {a} } }}", None),
        ("{{a}", None),
        ("{{a\n{b}}", None),
        ("{{{a}}", (Text("{"), Value(("a",), True))),
        ("{{a}}}", (Value(("a",), True), Text("}"))),
        ("{{{{a}}}}", (Text("{"), Value(("a",), False), Text("}"))),
        ("a\r\n\0b", None),
    ],
)
def test_braces_that_make_no_tag_are_text(source: str, body: tuple[object, ...] | None) -> None:
    assert parse(source).body == ((Text(source),) if body is None else body)


@pytest.mark.parametrize("pattern", ["{{#a}}1{{^a}}2{{/a}}", "{{^a}}2{{#a}}1{{/a}}", "{{#a}}1{{#a}}2{{/a}}"])
def test_the_same_path_again_is_the_other_half(pattern: str) -> None:
    first, second = parse(pattern).body
    assert isinstance(first, Section)
    assert isinstance(second, Section)
    assert first.path == second.path == ("a",)
    assert [first.inverted, second.inverted] == [mark == "^" for mark in pattern if mark in "#^"]


def test_another_path_inside_is_a_block_of_its_own() -> None:
    assert parse("{{#a}}{{^b}}{{/b}}{{/a}}").body == (Section(("a",), False, (Section(("b",), True, ()),)),)


@pytest.mark.parametrize(
    "path",
    [
        "...a", ".../a", "/", "./", "..", ".. ", "//", "a..b", "a/b", "..a", "../..", "@", "@content", "[",
        "]", ")", "(", "~", "$", "%", "a-b", "first name", "a b", "a,b", "if a", "a\0b", "a'b", "é!",
        "pm:unsubscribe", "😀",
    ],
)  # fmt: skip
def test_what_is_no_path(path: str) -> None:
    for source in ("{{%s}}", "{{{%s}}}", "{{&%s}}", "{{#each %s}}{{/each}}"):
        if source == "{{%s}}" and path.startswith("/"):
            continue  # it closes a block
        if source == "{{{%s}}}" and path.startswith(("@", "pm:")):
            continue
        [(line, character, message)] = problems(source % path)
        assert (line, character) == (1, 1)
        assert message.startswith(f"'{path.strip()}' is not a valid path")


@pytest.mark.parametrize("mark", ["#", "^"])
def test_a_bad_path_of_a_block_is_said_once(mark: str) -> None:
    assert len(problems(f"{{{{{mark}a b}}}}{{{{^a b}}}}{{{{/a b}}}}")) == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{#each}}{{/each}}", [(1, 1, "An 'each' block needs the path of a list: {{#each path}}.")]),
        ("{{#each }}{{/each}}", [(1, 1, "An 'each' block needs the path of a list: {{#each path}}.")]),
        (
            "{{#eachs}}{{name}}{{/each}}",
            [(1, 1, "An 'each' block needs the path of a list: {{#each path}}.")],
        ),
        ("{{#each\na}}{{/each}}", [(1, 1, "An 'each' block needs the path of a list: {{#each path}}.")]),
        ("x{{/each}}", [(1, 2, "{{/each}} closes no {{#each path}}: no block is open.")]),
        ("{{#a}}{{/each}}{{/a}}", [(1, 7, "{{/each}} closes no {{#each path}}: {{#a}} is open.")]),
        ("{{/a}}", [(1, 1, "{{/a}} does not match what it should close: no block is open.")]),
        ("{{/}}", [(1, 1, "{{/}} does not match what it should close: no block is open.")]),
        (
            "\n {{#a}}{{/b}}",
            [
                (2, 2, "The block {{#a}} is not closed; its end is {{/a}}."),
                (2, 8, "{{/b}} does not match what it should close: {{#a}} is open."),
            ],
        ),
        (
            "{{#each a}}{{/each a}}",
            [
                (1, 1, "The block {{#each a}} is not closed; its end is {{/each}}."),
                (1, 12, "The end of an 'each' block is {{/each}}, with nothing else in it."),
            ],
        ),
        (
            "{{^a}}\n{{#each b}}\n",
            [
                (1, 1, "The block {{^a}} is not closed; its end is {{/a}}."),
                (2, 1, "The block {{#each b}} is not closed; its end is {{/each}}."),
            ],
        ),
        ("{{#a}}{{^a}}", [(1, 1, "The block {{^a}} is not closed; its end is {{/a}}.")]),
        ("{{{@content}}}", [(1, 1, "{{{@content}}} stands in layouts only.")]),
    ],
)
def test_what_is_wrong_with_blocks(source: str, said: list[tuple[int, int, str]]) -> None:
    assert problems(source) == said


def test_helpers_of_other_languages_are_refused() -> None:
    path, block, end = (message for _, _, message in problems("{{#if paid}}yes{{/if}}"))
    assert path.startswith("'if paid' is not a valid path")
    assert block.startswith("The block {{#if paid}} is not closed")
    assert end.startswith("{{/if}} does not match")
    assert places("{{#a}}{{else}}{{> partial}}{{/a}}") == [(1, 15)]  # `else` is a name like any other


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("{{@}}", (1, 1)),
        ("ab{{@}}", (1, 3)),
        ("ab\n{{@}}", (2, 1)),
        ("ab\r\ncd{{@}}", (2, 3)),
        ("\n\n\n  {{@}}", (4, 3)),
        ("{{a}}\n{{b}} {{@}}", (2, 7)),
        ("é{{@}}", (1, 2)),
        ("😀{{@}}", (1, 3)),  # two UTF-16 units
        ("{{!\n\n}}{{@}}", (3, 3)),
    ],
)
def test_places(source: str, place: tuple[int, int]) -> None:
    assert places(source) == [place]


def test_problems_are_in_the_order_of_their_places_and_not_too_many() -> None:
    assert places("{{#a}}\n{{@}}\n{{#each b}}{{@}}") == [(1, 1), (2, 1), (3, 1), (3, 12)]
    assert len(problems("{{@}}" * 100_000)) == MAX_PROBLEMS


def test_a_long_path_is_cut_in_what_is_said() -> None:
    assert len(problems("{{" + "a-" * 400 + "}}")[0][2]) < 300
    assert problems("{{" + "a" * (MAX_PATH + 1) + "}}") == [
        (1, 1, "A path is at most 1,000 characters long.")
    ]
    assert len(problems("{{#" + "a" * 4_000_000 + "}}")[1][2]) < 300


@pytest.mark.parametrize(
    "tag",
    [
        "{{{ pm:unsubscribe }}}",
        "{{{pm:unsubscribe}}}",
        "{{{ pm:unsubscribe_url }}}",
        '{{{ pm:unsubscribe label="Leave us" }}}',
        "{{{ pm:unsubscribe label='Leave us' }}}",
    ],
)
def test_the_place_of_the_unsubscribe_link_is_left_for_the_sending(tag: str) -> None:
    assert parse(f"a{tag}").body == (Text("a"), Text(tag))


@pytest.mark.parametrize("tag", ["{{ pm:unsubscribe }}", "{{{ pm:other }}}", "{{{ pm:unsubscribe x }}}"])
def test_nothing_else_of_that_kind_is(tag: str) -> None:
    assert len(problems(tag)) == 1


@pytest.mark.parametrize("tag", ["{{{@content}}}", "{{{ @content }}}", "{{{\n@content\n}}}"])
def test_the_placeholder_of_a_layout(tag: str) -> None:
    assert parse(f"<b>{tag}</b>", layout=True) == Template((Text("<b>"), Slot(tag), Text("</b>")), slots=1)


@pytest.mark.parametrize(
    ("source", "found"),
    [("<b></b>", "missing"), ("{{{@content}}}{{{@content}}}", "2 times"), ("{{{ content }}}", "missing")],
)
def test_a_layout_has_its_placeholder_exactly_once(source: str, found: str) -> None:
    with pytest.raises(PlaceholderInvalid) as caught:
        parse(source, layout=True)
    [problem] = caught.value.problems
    assert "The layout content placeholder must be present exactly once" in problem.message
    assert "{{{@content}}}" in problem.message
    assert found in problem.message
    assert problem == Problem(problem.message, 0, 0)


def test_what_is_wrong_with_a_layout_comes_before_its_placeholder() -> None:
    with pytest.raises(TemplateInvalid) as caught:
        parse("{{#a}}", layout=True)
    assert not isinstance(caught.value, PlaceholderInvalid)
    assert [one[0] for one in problems("{{@content}}", layout=True)] == [1]


def test_the_content_comes_to_the_placeholder_wherever_that_is() -> None:
    layout = parse("<{{#a}}{{#each b}}{{{@content}}}{{/each}}{{/a}}>", layout=True)
    assert within(layout, parse("{{x}}")) == parse("<{{#a}}{{#each b}}{{x}}{{/each}}{{/a}}>")


def test_a_layout_is_not_the_content_of_a_layout() -> None:
    layout = parse("{{{@content}}}", layout=True)
    with pytest.raises(ValueError, match="its content none"):
        within(layout, layout)
    with pytest.raises(ValueError, match="has one placeholder"):
        within(parse("a"), parse("b"))
