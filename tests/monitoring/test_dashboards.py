import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards.board import Board
from monitoring.dashboards.every import BOARDS
from monitoring.dashboards.grafana import to_json
from monitoring.reference import described

MONITORING = Path(__file__).parents[2] / "monitoring"
FOLDER = MONITORING / "dashboards"
EXPOSED = {
    name
    for metric in described()
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.kind == "histogram"
        else [metric.name]
    )
}
RECORDED = {
    rule["record"]
    for path in (MONITORING / "alerts").glob("*.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule
}
every_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)


def panels(board: Board) -> Iterator[dict[str, Any]]:
    yield from json.loads(to_json(board))["panels"]


@every_board
def test_the_committed_json_is_the_generated_one(board: Board) -> None:
    assert (FOLDER / f"{board.uid}.json").read_text() == to_json(board) + "\n", "write it again: make dashboards"


def test_no_json_is_left_of_a_board_that_is_no_more() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {board.uid for board in BOARDS}


@every_board
def test_panels_have_ids_of_their_own_and_none_overlaps_or_leaves_the_grid(board: Board) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(board):
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} is over {taken[x, y]}"
                taken[x, y] = panel["title"]
    ids = [panel["id"] for panel in panels(board)]
    assert len(ids) == len(set(ids))


@every_board
def test_every_panel_says_what_it_shows_in_which_unit_from_the_chosen_source(board: Board) -> None:
    for panel in panels(board):
        if panel["type"] == "row":
            continue
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        names = [target["refId"] for target in panel["targets"]]
        assert names and len(names) == len(set(names))
        assert all(target["legendFormat"] for target in panel["targets"])


@every_board
def test_queries_ask_for_what_is_exposed_or_recorded_at_the_rate_of_the_scrapes(board: Board) -> None:
    for panel in panels(board):
        for target in panel.get("targets", ()):
            expr = target["expr"]
            named = set(re.findall(r"\b(?:vibestream|gen_ai_client)[a-z0-9_:]+", expr))
            assert named <= EXPOSED | RECORDED, named - EXPOSED - RECORDED
            assert set(re.findall(r"\brate\([^)]*\[(.*?)\]", expr)) <= {"$__rate_interval"}


def test_throughput_comes_first() -> None:
    first = [panel["title"] for panel in panels(BOARDS[0]) if panel["type"] == "timeseries"][0]
    assert first == "Records a second"
