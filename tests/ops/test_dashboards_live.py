"""Every query of every dashboard, on a Prometheus that scrapes workers under load."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.ops.conftest import MONITORING, Prometheus
from tests.ops.screen import picture
from tests.processes import wait_until

# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "15s", "$__range": "60s", "$group": ".*"}
BOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
_PATIENCE_S = 240


class Shown(NamedTuple):
    """A panel, and the series of each of its queries."""

    panel: Mapping[str, Any]
    series: Sequence[Sequence[Mapping[str, Any]]]


def query(prometheus: Prometheus, expr: str) -> list[dict[str, Any]]:
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    now = time.time()
    return prometheus.get("query_range", query=expr, start=now - 60, end=now, step=1)["result"]


def has_values(series: list[dict[str, Any]]) -> bool:
    return any(value != "NaN" for one in series for _, value in one["values"])


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_no_panel_is_empty_and_every_legend_has_its_labels(prometheus: Prometheus, path: Path) -> None:
    board = json.loads(path.read_text())
    shown: list[Shown] = []
    for panel in board["panels"]:
        found = []
        for target in panel.get("targets", ()):
            what = f"{panel['title']}/{target['refId']}: {target['expr']}"
            wait_until(lambda target=target: has_values(query(prometheus, target["expr"])), _PATIENCE_S, what)
            series = query(prometheus, target["expr"])
            for label in re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]):
                assert all(label in one["metric"] for one in series), f"{what}: no label {label}"
            found.append(series)
        shown.append(Shown(panel, found))
    picture(board["title"], shown, path.stem)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_variable_has_choices(prometheus: Prometheus, path: Path) -> None:
    for variable in json.loads(path.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            asked = variable["query"] if isinstance(variable["query"], str) else variable["query"]["query"]
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", asked).groups()
            assert prometheus.get(f"label/{label}/values", **{"match[]": metric})


def test_all_rules_are_evaluated_without_errors(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    wait_until(
        lambda: {r["health"] for g in prometheus.get("rules")["groups"] for r in g["rules"]} == {"ok"},
        60,
        "all rules were evaluated",
    )
    assert [rule["lastError"] for rule in rules if "lastError" in rule] == []
