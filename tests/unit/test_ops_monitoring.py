"""What Prometheus and Grafana ask for is exported, with the labels that they name; and all is well formed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import promql_parser as promql
import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from streams.transport import telemetry
from streams.transport.histogram import BatchHistogram
from tests.support.operations import ROOT, alerts, compose, dashboard, expressions, ours, panels, yaml
from tests.unit.test_docs import anchors, page

# What Prometheus itself adds.
ADDED = {"job", "instance"}
SERIES = {"up": frozenset[str]()}
TEMPLATE = re.compile(r"\$labels\.(\w+)")
LEGEND = re.compile(r"\{\{(\w+)\}\}")


@cache
def exported() -> dict[str, frozenset[str]]:
    """Labels of every series that a process of ours exports, by name."""
    found = dict(SERIES)
    for metric in vars(telemetry).values():
        if isinstance(metric, Counter | Gauge | Histogram | BatchHistogram):
            labels = frozenset(getattr(metric, "_labelnames", ()))
            for family in metric.describe():
                if family.type == "histogram":
                    found |= {f"{family.name}_{part}": labels for part in ("count", "sum")}
                    found[f"{family.name}_bucket"] = labels | {"le"}
                else:
                    found[family.name + ("_total" if family.type == "counter" else "")] = labels
    # Of the process itself, by the client library.
    found |= {
        sample.name: frozenset() for family in REGISTRY.collect() for sample in family.samples if of_process(sample)
    }
    return found


def of_process(sample: Any) -> bool:
    return bool(sample.name.startswith("process_"))


def bounds(name: str) -> set[str]:
    """The values of `le` that a histogram without further labels exports."""
    samples = (sample for family in REGISTRY.collect() for sample in family.samples)
    return {sample.labels["le"] for sample in samples if sample.name == name}


def nodes(node: Any) -> Iterator[Any]:
    """An expression and all that is in it."""
    yield node
    for part in ("lhs", "rhs", "expr", "vector_selector"):
        if (child := getattr(node, part, None)) is not None:
            yield from nodes(child)
    for child in getattr(node, "args", None) or ():
        yield from nodes(child)


def selectors(expression: str) -> list[tuple[str, Any]]:
    """The series that an expression selects, each with its matchers. Raises ValueError where it is none."""
    found = (node for node in nodes(promql.parse(expression)) if isinstance(node, promql.VectorSelector))
    return [(str(node.name), node.matchers.matchers) for node in found]


def faults(expression: str) -> list[str]:
    """What an expression asks for and nobody exports."""
    try:
        selected = selectors(expression)
    except ValueError as error:
        return [str(error)]
    found = [f"no metric {name}" for name, _ in selected if name not in exported()]
    known = [(name, matchers) for name, matchers in selected if name in exported()]
    found += [fault for name, matchers in known for matcher in matchers for fault in mismatches(name, matcher)]
    grouped = {label for node in nodes(promql.parse(expression)) for label in grouping(node)}
    every = {label for name, _ in known for label in exported()[name]} | ADDED
    return [*found, *(f"nothing has the label {label}" for label in sorted(grouped - every))]


def mismatches(name: str, matcher: Any) -> Iterator[str]:
    if matcher.name not in exported()[name] | ADDED:
        yield f"{name} has no label {matcher.name}"
    elif matcher.name == "le" and matcher.value not in bounds(name):
        yield f"{name} has no bucket {matcher.value}"
    elif matcher.name == "job" and not set(matcher.value.split("|")) <= scraped():
        yield f"there is no job {matcher.value}"


def grouping(node: Any) -> list[str]:
    if not isinstance(node, promql.AggregateExpr) or node.modifier is None:
        return []
    return list(node.modifier.labels)


def scraped() -> set[str]:
    return {job["job_name"] for job in yaml("ops/prometheus/prometheus.yml")["scrape_configs"]}


# ------------------------------------------------------------------ expressions


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=list(expressions()))
def test_an_expression_asks_for_what_is_exported(where: str, expression: str) -> None:
    assert faults(expression) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(rate(pointsman_nothing_total[5m]))",
        "sum by (colour) (pointsman_inflight_tasks)",
        'pointsman_inflight_tasks{agent="x"}',
        'pointsman_error_cascade_depth_bucket{le="3"}',
        'pointsman_ready{job="wroker"}',
        "sum(rate(pointsman_results[5m]))",
        "sum(rate(pointsman_results_total[5m])",
        "pointsman_ready and on (job) (up unless pointsman_nothing)",
    ],
)
def test_the_judge_finds_what_is_not_there(wrong: str) -> None:
    assert faults(wrong) != []


def test_the_process_itself_is_measured() -> None:
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= set(exported())


# ------------------------------------------------------------------ alerts


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[sm]", rule["for"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    name, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors(page(name))
    labels = {label for each in exported().values() for label in each} | ADDED
    assert set(TEMPLATE.findall(rule["annotations"]["summary"])) <= labels


def test_the_runbook_speaks_of_every_alert() -> None:
    text = page("docs/runbook.md")
    assert [rule["alert"] for rule in alerts() if f"`{rule['alert']}`" not in text] == []


# ------------------------------------------------------------------ scraping


def test_every_process_is_scraped_where_it_listens() -> None:
    config = yaml("ops/prometheus/prometheus.yml")
    found = {
        job["job_name"]: (job["dns_sd_configs"][0]["names"], job["dns_sd_configs"][0]["port"])
        for job in config["scrape_configs"]
        if "dns_sd_configs" in job
    }
    serving = {name: service for name, service in ours().items() if service["restart"] != "no"}
    assert found == {
        name: ([name], int(service["environment"]["POINTSMAN_METRICS_PORT"])) for name, service in serving.items()
    }
    assert [name for name in config["rule_files"] if not (ROOT / "ops/prometheus" / name).exists()] == []


def test_prometheus_reads_what_is_mounted() -> None:
    service = compose()["prometheus"]
    assert "./ops/prometheus:/etc/prometheus:ro" in service["volumes"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in service["command"]


# ------------------------------------------------------------------ the dashboard


def test_panels_have_ids_and_titles_of_their_own() -> None:
    every = dashboard()["panels"]
    for key in ("id", "title"):
        values = [panel[key] for panel in every]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    (source,) = yaml("ops/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for each in (panel, *panel["targets"]):
        assert each["datasource"] == {"type": source["type"], "uid": source["uid"]}
    for target in panel["targets"]:
        labels = set(LEGEND.findall(target["legendFormat"]))
        tree = promql.parse(target["expr"].replace("$__rate_interval", "5m"))
        kept = {label for node in nodes(tree) for label in grouping(node)}
        assert labels <= (kept or ADDED)


def test_no_panel_lies_on_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not own & cells
        cells |= own


def test_the_health_metrics_that_are_measured_come_first() -> None:
    first = [panel["title"] for panel in panels()[:3]]
    assert first == ["Task completion rate", "Cascades deeper than three", "Decision latency, p99"]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (source,) = yaml("ops/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml("ops/grafana/provisioning/dashboards/pointsman.yml")["providers"]
    folder = provider["options"]["path"]
    service = compose()["grafana"]
    assert f"./ops/grafana/dashboards:{folder}:ro" in service["volumes"]
    assert service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/pointsman.json"
