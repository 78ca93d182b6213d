"""The dashboard and the alert rules ask for metrics that exist, by labels and values that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from postroom.core.message import Purpose
from postroom.engine.notices import NoticeKind
from postroom.engine.status import Off
from postroom.metrics.table import METRICS
from postroom.transports.dialer import REFUSALS
from postroom.transports.interface import Result

ROOT = Path(__file__).parents[3]
DASHBOARD: Any = json.loads((ROOT / "dashboards" / "grafana.json").read_text("utf-8"))
ALERTS: Any = yaml.safe_load((ROOT / "dashboards" / "alerts.yml").read_text("utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
OF_THE_SCRAPE = {"instance", "job"}  # labels that Prometheus adds
FOREIGN: dict[str, set[str]] = {
    "up": set(),
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
}
VALUES = {
    "outcome": {one.value for one in Result},
    "purpose": {one.value for one in Purpose},
    "reason": set(REFUSALS),
    "window": {"hour", "day"},
}
KINDS = {
    "postroom_connection_off": {one.value for one in Off},
    "postroom_notices_total": {one.value for one in NoticeKind},
    "postroom_troubles": {one.value for one in NoticeKind},
}


def labels_by_series() -> dict[str, set[str]]:
    """Every series there can be, with its labels."""
    found = {name: set(labels) for name, labels in FOREIGN.items()}
    for one in METRICS:
        if one.type == "histogram":
            found[f"{one.name}_bucket"] = {*one.labels, "le"}
            found |= {f"{one.name}{end}": set(one.labels) for end in ("_sum", "_count")}
        else:
            found[one.name] = set(one.labels)
    return found


SERIES = labels_by_series()


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query with Grafana's variables filled in."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for one in DASHBOARD["annotations"]["list"]:
        yield f"annotation {one['name']}", one["expr"]
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]


def filled(query: str) -> str:
    known = {"$__rate_interval": "5m", "$instance": ".*", "$connection": ".*"}
    for name, value in known.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def faults(query: str) -> list[str]:
    """What is wrong with a query: names, labels and values that nothing has."""
    found: list[str] = []
    seen: set[str] = set(OF_THE_SCRAPE)
    grouped: set[str] = set()

    def look(node: Any) -> None:  # Any: the parser's types say little
        if isinstance(node, promql.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)
        if not isinstance(node, promql.VectorSelector):
            for name in ("expr", "lhs", "rhs", "param"):
                if (inner := getattr(node, name, None)) is not None:
                    look(inner)
            for argument in getattr(node, "args", ()):
                look(argument)
            return
        if node.name not in SERIES:
            found.append(f"there is no {node.name}")
            return
        seen.update(SERIES[node.name])
        for one in node.matchers.matchers:
            if one.name not in SERIES[node.name] | OF_THE_SCRAPE:
                found.append(f"{node.name} has no {one.name}")
            allowed = KINDS.get(node.name) if one.name == "kind" else VALUES.get(one.name)
            if allowed is not None and one.value != ".*":
                found.extend(f"{one.name} is never {word}" for word in {*one.value.split("|")} - allowed)

    look(promql.parse(filled(query)))
    return found + [f"grouped by {label}, which nothing has" for label in sorted(grouped - seen)]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_query_asks_for_what_there_is(where: str, query: str) -> None:
    assert faults(query) == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(postroom_attempt_total[5m])", "there is no postroom_attempt_total"),
        ('postroom_queue_due{stream="x"}', "postroom_queue_due has no stream"),
        ('postroom_attempts_total{outcome=~"sent|lost"}', "outcome is never lost"),
        ('postroom_connection_off{kind="tired"}', "kind is never tired"),
        ("sum by (window) (rate(postroom_commit_seconds_sum[5m]))", "grouped by window, which nothing has"),
        ("histogram_quantile(0.5, postroom_commit_seconds)", "there is no postroom_commit_seconds"),
    ],
)
def test_what_is_wrong_is_found(query: str, fault: str) -> None:
    assert faults(query) == [fault]


def test_every_metric_of_use_on_a_screen_is_on_it() -> None:
    shown = " ".join(query for _, query in queries())
    for one in METRICS:
        assert one.name in shown or one.name in {
            "postroom_accepted_total",  # beside the deliveries, which are what is sent
            "postroom_build_info",  # in the variable of instances
        }, one.name


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert (DASHBOARD["id"], DASHBOARD["uid"], DASHBOARD["title"]) == (None, "postroom", "Postroom")
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for name in ("instance", "connection"):
        metric, label = re.findall(r"label_values\((\w+).*, (\w+)\)", variables[name]["definition"])[0]
        assert label in SERIES[metric] | OF_THE_SCRAPE
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another one"
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


def test_the_alerts_are_complete_and_explained() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        if "for" in rule:
            promql.parse_duration(rule["for"])
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        query = rule["expr"]
        kept = {name for series in SERIES if series in query for name in SERIES[series]} | OF_THE_SCRAPE
        assert labels <= kept, rule["alert"]
        assert f"| `{rule['alert']}` |" in page
