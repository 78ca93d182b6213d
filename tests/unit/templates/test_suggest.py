"""The model read off templates, and what `examine` tells their author."""

from __future__ import annotations

import pytest

from postroom.templates.examine import Source, Verdict, examine
from postroom.templates.render import Limits
from postroom.templates.suggest import completed, suggested_model
from postroom.templates.syntax import Problem, parse


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("nothing", {}),
        ("{{a}}", {"a": "a_Value"}),
        ("{{{a}}}{{&b}}", {"a": "a_Value", "b": "b_Value"}),
        ("{{a.b.c}}", {"a": {"b": {"c": "c_Value"}}}),
        ("{{#a}}{{b}}{{/a}}", {"a": {"b": "b_Value"}}),
        ("{{#a}}{{b}}{{../c}}{{/a}}", {"a": {"b": "b_Value"}, "c": "c_Value"}),
        ("{{^a}}none{{/a}}", {"a": {}}),
        ("{{#a}}some{{/a}}", {"a": {}}),
        ("{{#a}}{{.}}{{/a}}", {"a": "a_Value"}),
        ("{{a}}{{a.b}}", {"a": {"b": "b_Value"}}),
        ("{{#each a}}{{/each}}", {"a": ["a_1", "a_2", "a_3"]}),
        ("{{#each a}}{{.}}{{/each}}", {"a": ["a_1", "a_2", "a_3"]}),
        ("{{#each a}}{{n}}{{/each}}", {"a": [{"n": "n_Value"}]}),
        ("{{#each a}}{{#each .}}{{n}}{{/each}}{{/each}}", {"a": [[{"n": "n_Value"}]]}),
        ("{{#each a.b}}{{n}}{{../../m}}{{/each}}", {"a": {"b": [{"n": "n_Value"}], "m": "m_Value"}}),
        # a list has no names: what cannot be found there is not suggested
        ("{{#each a}}{{../m}}{{/each}}", {"a": ["a_1", "a_2", "a_3"]}),
        ("{{../../a}}", {"a": "a_Value"}),
        (
            "{{#each staff}}{{person.name}}{{#each colors}}{{hue}}{{/each}}"
            "{{#each places}}{{.}}{{/each}}{{/each}}",
            {
                "staff": [
                    {
                        "person": {"name": "name_Value"},
                        "colors": [{"hue": "hue_Value"}],
                        "places": ["places_1", "places_2", "places_3"],
                    }
                ]
            },
        ),
    ],
)
def test_what_paths_tell(source: str, model: object) -> None:
    assert suggested_model([parse(source)]) == model


def test_several_templates_make_one_model() -> None:
    sources = (
        "{{#company}}{{address}}{{/company}}{{#each person}}{{name}}{{/each}}",
        "{{company.phone}}{{headline}}",
    )
    model = suggested_model(map(parse, sources))
    assert model == {
        "company": {"address": "address_Value", "phone": "phone_Value"},
        "person": [{"name": "name_Value"}],
        "headline": "headline_Value",
    }
    assert list(model) == ["company", "person", "headline"]


def test_what_is_given_stays() -> None:
    given = {"a": None, "b": {"x": 1}, "c": [1], "d": "text", "own": 0}
    suggested = {"a": "A", "b": {"x": "X", "y": "Y"}, "c": ["C"], "d": {"n": "N"}, "e": "E"}
    assert completed(given, suggested) == {
        "a": None, "b": {"x": 1, "y": "Y"}, "c": [1], "d": "text", "own": 0, "e": "E",
    }  # fmt: skip
    assert given["b"] == {"x": 1}


def test_examining_a_template_and_its_layout() -> None:
    layout = parse("<b>{{{@content}}}</b>{{footer}}", layout=True)
    seen = examine(
        {
            "subject": Source("Hi {{name}}", escape=False),
            "html": Source("{{name}}{{#each rows}}{{n}}{{/each}}", escape=True, layout=layout),
        },
        {"name": "A&B"},
    )
    assert seen.is_valid
    assert seen.model == {"name": "A&B", "rows": [{"n": "n_Value"}], "footer": "footer_Value"}
    assert seen.verdicts == {
        "subject": Verdict((), "Hi A&B"),
        "html": Verdict((), "<b>A&amp;Bn_Value</b>footer_Value"),
    }
    assert list(seen.verdicts) == ["subject", "html"]


def test_examining_what_is_wrong() -> None:
    seen = examine(
        {
            "subject": Source("{{#a}}", escape=False),
            "html": Source("x{{#each a}}{{/each}}{{b}}", escape=True),
            "text": Source("{{c}}", escape=False),
        },
        {"a": "no list"},
    )
    assert not seen.is_valid
    assert seen.verdicts["subject"].problems[0].line == 1
    assert seen.verdicts["subject"].rendered is None
    [problem] = seen.verdicts["html"].problems
    assert (problem.line, problem.character) == (1, 2)
    assert "is used like a list" in problem.message
    assert seen.verdicts["text"] == Verdict((), "c_Value")
    assert seen.model == {"a": "no list", "b": "b_Value", "c": "c_Value"}


def test_examining_a_layout() -> None:
    assert examine({"html": Source("<{{{@content}}}>", True, is_layout=True)}, {}).is_valid
    seen = examine({"html": Source("<>", True, is_layout=True)}, {})
    assert "placeholder must be present" in seen.verdicts["html"].problems[0].message


def test_examining_is_bounded() -> None:
    seen = examine({"html": Source("{{a}}", True)}, {"a": "x" * 11}, limits=Limits(characters=10))
    assert seen.verdicts["html"] == Verdict((Problem("The result is longer than 10 characters."),), None)
