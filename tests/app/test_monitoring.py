"""Checks the rules for Prometheus and the dashboard for Grafana: their form, and that all metrics in them exist.

`tests/services/test_flink_metrics.py` compares the names with those that Flink shows.
"""

import itertools
import re
from typing import Any

import pytest

from beam_dedup.core.model import REJECT_REASONS
from tests.app.cli_runs import ROOT
from tests.app.monitoring import DASHBOARD, EXPRESSIONS, RULES, our_names, recorded_names
from transforms import metrics

RUNBOOK = (ROOT / "docs/guides/runbook.md").read_text("utf-8")
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
ALERTS = [rule for rule in RULES if "alert" in rule]
FUNCTIONS = {
    "absent",
    "by",
    "clamp_max",
    "increase",
    "max",
    "min_over_time",
    "rate",
    "sum",
}
WORDS = {"and", "or", "job_name", "host", "__name__"}


def test_every_counter_and_gauge_exists() -> None:
    known = {str(value) for name, value in vars(metrics).items() if name.isupper()}
    known |= {metrics.rejected_for(reason) for reason in REJECT_REASONS} | {"Rejected_.+_Count"}
    assert our_names() <= known
    gauges = {metrics.LATENCY_P50, metrics.LATENCY_P95, metrics.LAG, metrics.CACHED_STATE}
    assert gauges <= our_names()
    assert metrics.LATENCY not in our_names(), "Prometheus does not take distributions"


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expression_has_known_words_and_closed_brackets(text: str) -> None:
    bare = re.sub(r'"[^"]*"', '""', text)
    for left, right in ("()", "[]", "{}"):
        depths = list(itertools.accumulate((one == left) - (one == right) for one in bare))
        assert depths[-1] == 0
        assert min(depths) >= 0
    assert all(re.fullmatch(r"\d+[smhd]", one) for one in re.findall(r"\[([^]]*)\]", bare))
    without_ranges = re.sub(r"\[[^]]*\]", "", bare)
    words = set(re.findall(r"[a-z_][\w:]*", without_ranges, re.IGNORECASE))
    assert words - FUNCTIONS - WORDS - recorded_names() == {
        word for word in words if word.startswith("flink_")
    }
    assert set(re.findall(r"(\w+) ?\(", without_ranges)) <= FUNCTIONS | WORDS


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_is_complete_and_has_a_section_in_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/guides/runbook.md"
    assert anchor == rule["alert"].lower()
    assert f"\n### {rule['alert']}\n" in RUNBOOK
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}


def test_runbook_has_no_section_without_an_alert() -> None:
    assert re.findall(r"^### (Dedup\w+)$", RUNBOOK, re.MULTILINE) == [rule["alert"] for rule in ALERTS]


def test_panels_have_titles_descriptions_and_the_chosen_datasource() -> None:
    assert [panel["id"] for panel in PANELS] == list(range(1, len(PANELS) + 1))
    source = {"type": "prometheus", "uid": "${datasource}"}
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["type"] in ("timeseries", "stat")
        assert panel["datasource"] == source
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["datasource"] == source and target["expr"] for target in panel["targets"])
    assert {"uid", "title", "schemaVersion", "time", "refresh"} <= DASHBOARD.keys()


def test_panels_do_not_overlap_and_fit_the_width_of_24() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
