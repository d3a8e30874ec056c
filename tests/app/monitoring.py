"""Reads the rules for Prometheus and the dashboard for Grafana."""

import json
import re
from typing import Any

import yaml

from tests.app.cli_runs import ROOT

FOLDER = ROOT / "templates/monitoring"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


def our_names() -> set[str]:
    """Returns the counters and gauges of `dedup` that expressions use; `Rejected_.+_Count` stands for all reasons."""
    return {
        name for text in EXPRESSIONS for name in re.findall(r'\{__name__=~"\.\+_beam_dedup_([^"]+)"\}', text)
    }


def flink_names() -> set[str]:
    """Returns the metrics of Flink that expressions use."""
    return {name for text in EXPRESSIONS for name in re.findall(r"\bflink_\w+", text)}


def recorded_names() -> set[str]:
    """Returns the metrics that the rules compute."""
    return {rule["record"] for rule in RULES if "record" in rule}
