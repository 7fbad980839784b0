"""The rules and their tests, by Prometheus's own tools."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "monitoring" / "alerts").glob("*.yml"))
TESTS = sorted(Path(__file__).parent.glob("alerts*_test.yml"))
ALERTS: list[dict[str, Any]] = [
    rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_configurations_are_valid() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES)
    run("promtool", "check", "config", ROOT / "monitoring" / "prometheus.yml")
    run("amtool", "check-config", ROOT / "monitoring" / "alertmanager.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_keep_quiet_as_their_tests_say(path: Path) -> None:
    run("promtool", "test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_is_tested_firing_and_quiet_and_has_a_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    groups = [group for path in TESTS for group in yaml.safe_load(path.read_text())["tests"]]
    fires = [
        group
        for group in groups
        if any(f'alertname="{name}"' in s["labels"] for t in group["promql_expr_test"] for s in t["exp_samples"])
    ]
    assert fires, "no test in which it fires"
    assert any(
        t["expr"].startswith("ALERTS") and not t["exp_samples"] for group in fires for t in group["promql_expr_test"]
    )
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert {"summary", "description", "runbook_url"} <= alert["annotations"].keys()
    page, _, section = alert["annotations"]["runbook_url"].partition("#")
    assert section == name.lower()
    assert re.search(rf"^## {name}$", (ROOT / page).read_text(), re.M)
