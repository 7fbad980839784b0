"""Writes the dashboards beside this file."""

from pathlib import Path

from monitoring.dashboards.every import BOARDS
from monitoring.dashboards.grafana import to_json

for board in BOARDS:
    (Path(__file__).parent / f"{board.uid}.json").write_text(to_json(board) + "\n")
