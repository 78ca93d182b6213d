"""Generated templates and models: the renderer against a naive one, the suggestion against the renderer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.templates.examine import Source, examine
from postroom.templates.render import RenderFailed, render
from postroom.templates.suggest import MAX_LEVELS
from postroom.templates.syntax import Problem, Template, TemplateInvalid, parse

from . import naive

_NAMES = st.sampled_from(["a", "b", "c"])
_PATHS = st.builds(
    lambda ups, names: "../" * ups + (".".join(names) or ("" if ups else ".")),
    st.integers(0, 3),
    st.lists(_NAMES, max_size=3),
)
_TEXTS = st.text(st.sampled_from(" <&>\"'xé愛\n\0"), max_size=5)
_LEAVES = st.one_of(
    _TEXTS,
    st.just("{{! a comment }}"),
    st.builds("{{{{{}}}}}".format, _PATHS),
    st.builds("{{{{ {} }}}}".format, _PATHS),
    st.builds("{{{{{{{}}}}}}}".format, _PATHS),
    st.builds("{{{{&{}}}}}".format, _PATHS),
)


def _blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, max_size=4).map("".join)
    return st.one_of(
        several,
        st.builds("{{{{#{0}}}}}{1}{{{{/{0}}}}}".format, _PATHS, several),
        st.builds("{{{{^{0}}}}}{1}{{{{/{0}}}}}".format, _PATHS, several),
        st.builds("{{{{#each {0}}}}}{1}{{{{/each}}}}".format, _PATHS, several),
    )


TEMPLATES = st.recursive(_LEAVES, _blocks, max_leaves=15)
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "x", "<i>&'\"", "愛"])
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)),
    max_leaves=10,
)
MODELS = st.dictionaries(_NAMES, _VALUES, max_size=3)


def read(source: str, layout: bool = False) -> tuple[Template | None, tuple[Problem, ...]]:
    """The template, or what is wrong."""
    try:
        return parse(source, layout=layout), ()
    except TemplateInvalid as error:
        return None, error.problems


@given(TEMPLATES, MODELS, st.booleans())
def test_as_the_naive_renderer_does(source: str, model: dict[str, Any], escape: bool) -> None:
    template, problems = read(source)
    if template is None:  # a block within one of the same path is its other half: the ends do not match
        assert all("not closed" in one.message or "match" in one.message for one in problems)
        return
    try:
        expected = naive.render(source, [model], escape=escape)
    except TypeError:
        with pytest.raises(RenderFailed, match="is used like a list"):
            render(template, model, escape=escape)
    else:
        assert render(template, model, escape=escape) == expected


@given(TEMPLATES)
def test_a_suggested_model_goes_with_its_template(source: str) -> None:
    examination = examine({"body": Source(source, escape=True)}, {})
    [verdict] = examination.verdicts.values()
    if not verdict.is_valid:
        # What is wrong is its blocks, or that it takes one place for a list and for something else.
        assert all(
            "not closed" in p.message or "match" in p.message or "list" in p.message for p in verdict.problems
        )
    assert len(json.dumps(examination.model)) < 100_000


@given(st.text(st.sampled_from("{}#^/&!.@ abe\néach😀\0"), max_size=60), st.booleans())
def test_any_text_is_a_template_or_says_where_it_is_wrong(source: str, layout: bool) -> None:
    template, problems = read(source, layout)
    if template is not None:
        render(template, {}, escape=True)
        return
    lines = source.split("\n")
    assert problems
    for one in problems:
        if one.line:
            line = lines[one.line - 1].encode("utf-16-le")
            assert line[2 * (one.character - 1) :].decode("utf-16-le").startswith("{{")


_LISTS = "{{#each .}}" * 99
_LISTS_END = "{{/each}}" * 99


@pytest.mark.parametrize(
    ("layout", "content"),
    [
        ("{{{@content}}}", "{{" + ".".join("a" * 300) + "}}"),
        ("{{#a}}" + _LISTS + "{{{@content}}}" + _LISTS_END + "{{/a}}", _LISTS + "{{.}}" + _LISTS_END),
    ],
)
def test_levels_of_a_suggestion_end(layout: str, content: str) -> None:
    source = Source(content, escape=True, layout=parse(layout, layout=True))
    suggested: Any = examine({"x": source}, {}).model
    level = 0
    while isinstance(suggested, dict | list) and suggested:
        suggested, level = suggested["a"] if isinstance(suggested, dict) else suggested[0], level + 1
    assert level == MAX_LEVELS
