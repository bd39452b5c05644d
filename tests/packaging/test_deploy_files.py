"""The files under ``deploy/``: what they name exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs.test_operations_page import metrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def queries() -> Iterator[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        yield rule["expr"]
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_rules_and_dashboard_name_metrics_that_there_are(query: str) -> None:
    known = set(metrics())
    for name in re.findall(r"\bmemx_[a-z_]+", query):
        assert re.sub("_(bucket|count|sum)$", "", name) in known, name
    assert query.count("(") == query.count(")")
