"""Distils nano students from small files, and loads what comes out as a worker does."""

import csv
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from models.bundle import load_bundle
from models.calibration import calibrated, fit_platt
from models.distil import Title, distil, next_version
from models.distil_formats import SOURCES, label_catalogue, read_rows
from models.distil_rows import MIN_PAIRS, Rows, read_labels, rows_of
from models.goemotions import LABELS, read_goemotions
from models.nano import fit_nano, nano_steps
from models.student import Student
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from tests.fakes.corpus import CATALOGUE, write_split

Row = Mapping[str, object]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Rows]:
    folder = tmp_path_factory.mktemp("corpus")
    paths = write_split(folder / "train.tsv.gz", 600, seed=1), write_split(folder / "dev.tsv.gz", 150, seed=2)
    train, dev = (rows_of(read_goemotions(path, LABELS, CATALOGUE)) for path in paths)
    return train, dev


def bundle(rows: Rows, dev: Rows | None, out: Path, catalogue: Catalogue = CATALOGUE) -> Path:
    steps: list[int] = []
    fitted = fit_nano(rows, 1, lambda: steps.append(1))
    assert len(steps) == nano_steps(len(catalogue.ids))
    return distil(fitted, rows, dev, catalogue, Title("nano", 7, SOURCES["goemotions"], 1), out)


@pytest.fixture(scope="module")
def distilled(splits: tuple[Rows, Rows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(*splits, tmp_path_factory.mktemp("out"))


async def test_a_distilled_bundle_loads_and_tells_the_classes_apart(distilled: Path):
    student = Student.load(distilled)
    try:
        scores = await student.score(
            ["lol it was hilarious", "a hug and love today", "the ghost was scary", "bus report"]
        )
    finally:
        student.close()
    assert student.ids == CATALOGUE.ids
    assert scores.probability.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert (scores.probability >= list(student.thresholds.values())).tolist() == np.eye(4, dtype=bool).tolist()


def test_the_manifest_tells_source_definitions_and_measurements(distilled: Path):
    manifest = load_bundle(distilled).manifest
    assert distilled.parts[-2:] == ("nano", "7")
    assert (manifest.training.licence, manifest.training.rows, manifest.training.heldout_rows) == (
        "Apache-2.0",
        600,
        600,
    )
    assert (manifest.metrics.on, manifest.metrics.rows) == ("dev", 150)
    assert manifest.metrics.macro_f1 > 0.9
    assert manifest.catalogue == CATALOGUE
    card = (distilled / "README.md").read_text()
    assert all(f"| {name} |" in card for name in CATALOGUE.ids)


def test_without_dev_texts_the_held_out_ones_are_measured(splits: tuple[Rows, Rows], tmp_path: Path):
    metrics = load_bundle(bundle(splits[0], None, tmp_path)).manifest.metrics
    assert (metrics.on, metrics.rows) == ("heldout", 600)
    assert metrics.macro_f1 > 0.9


def test_distilling_twice_gives_the_same_bundle(distilled: Path, splits: tuple[Rows, Rows], tmp_path: Path):
    again = bundle(*splits, tmp_path)
    assert load_bundle(again).manifest == load_bundle(distilled).manifest


def test_a_bundle_is_never_written_over(distilled: Path, splits: tuple[Rows, Rows]):
    with pytest.raises(ConfigurationError, match="already there"):
        bundle(*splits, distilled.parents[1])
    assert next_version(distilled.parents[1], "nano") == 8
    assert next_version(distilled.parents[1], "other") == 1


def test_an_attribute_too_rare_to_learn_is_never_accepted(splits: tuple[Rows, Rows], tmp_path: Path):
    first = np.eye(4, dtype=np.float32)[0]
    train, dev = (Rows(part.texts, part.q * (1 - first), part.weight, part.golden) for part in splits)
    manifest = load_bundle(bundle(train, dev, tmp_path)).manifest
    assert manifest.metrics.attributes["funny"].accept == 0


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(video: str = "v1", attribute: str = "funny", source: str = "silver", **fields: object) -> Row:
    return {"video_id": video, "text": f"text of {video}", "attribute": attribute, "source": source, **fields}


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_labels_that_are_missing_have_no_weight_and_golden_ones_stand_over_silver_ones(tmp_path: Path, name: str):
    path = write_rows(
        tmp_path / name,
        [
            row(q=0.25, weight=4.0),
            row(source="golden", q=1.0, weight=1.0),
            row(video="v2", attribute="eerie", q=0.75, weight=2.5),
        ],
    )
    rows = read_labels([path], CATALOGUE)
    assert rows.texts == ["text of v1", "text of v2"]
    assert rows.q.tolist() == [[1, 0, 0, 0], [0, 0, 0.75, 0]]
    assert rows.weight.tolist() == [[1, 0, 0, 0], [0, 0, 2.5, 0]]
    assert rows.golden.tolist() == [[True, False, False, False], [False] * 4]


def test_silver_labels_are_corrected_by_how_the_llm_errs_beside_golden_ones(tmp_path: Path):
    pairs = [(1.0, 1)] * 14 + [(1.0, 0)] * 4 + [(0.0, 1)] * 2 + [(0.0, 0)] * 8
    rows = [
        one
        for i, (q, label) in enumerate(pairs)
        for one in (row(video=f"v{i:02}", q=q), row(video=f"v{i:02}", source="golden", q=label))
    ]
    rows += [row(video="w1", q=1.0), row(video="w2", q=0.0), row(video="w3", q=0.5)]
    rows += [row(video="w1", attribute="eerie", q=1.0)]
    assert len(pairs) >= MIN_PAIRS
    read = read_labels([write_rows(tmp_path / "rows.csv", rows)], CATALOGUE)
    precision, missed = 15 / 20, 3 / 12
    np.testing.assert_allclose(read.q[-3:, 0], [precision, missed, (precision + missed) / 2], atol=1e-6)
    assert read.q[-3, 2] == 1, "nothing is known of its errors"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row(q=1.5)], "row 1: q .* in \\[0, 1\\]"),
        ([row(q=1), row(video="v2", q=None)], "row 2: q"),
        ([row(label=2)], "row 1: .*label"),
        ([row(q=1, weight=-1.0)], "weight is -1.0"),
        ([row(q=1, source="bronze")], "source is bronze"),
        ([row(q=1, attribute="cosy")], "cosy are not in the catalogue"),
        ([row(q=1), row(q=0)], "'v1', attribute 'funny' has 2 silver rows"),
        ([row(q=1), {**row(q=1, attribute="eerie"), "text": "other"}], "'v1' has two texts"),
        ([row()], "missing: q"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused_with_value_and_remedy(tmp_path: Path, rows: list[Row], says: str):
    with pytest.raises(ConfigurationError, match=says):
        read_labels([write_rows(tmp_path / "rows.csv", rows)], CATALOGUE)


_CAPTIONS = {"8.0": ("颜值", "美女漂亮"), "12.0": ("美食", "做饭菜吃")}


def write_captions(path: Path, videos: int) -> Path:
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    for i in range(videos):
        number = str(rng.choice(list(_CAPTIONS)))
        name, words = _CAPTIONS[number]
        filler = "".join(rng.choice(list("今天我们一起去看一看"), 6))
        rows.append(
            {
                "video_id": i, "manual_cover_text": "UNKNOWN", "caption": f"{filler}{rng.choice(list(words))}{filler}",
                "topic_tag": "[]", "first_level_category_id": number, "first_level_category_name": name,
            }
        )  # fmt: skip
    unknown = {**rows[0], "first_level_category_id": "-124.0", "first_level_category_name": "UNKNOWN"}
    return write_rows(path, [*rows, unknown])


async def test_chinese_captions_teach_their_categories_by_the_same_way(tmp_path: Path):
    path = write_captions(tmp_path / "captions.csv", 300)
    catalogue = label_catalogue("captions", [path])
    rows = read_rows("captions", [path], catalogue)
    assert [(one.id, one.name) for one in catalogue.attributes] == [("category_8", "颜值"), ("category_12", "美食")]
    assert len(rows.texts) == 300
    made = bundle(rows, None, tmp_path / "out", catalogue)
    assert load_bundle(made).manifest.metrics.macro_f1 > 0.9
    student = Student.load(made)
    try:
        scores = await student.score(["我们去看美女", "今天一起做菜"])
    finally:
        student.close()
    assert scores.probability.argmax(axis=1).tolist() == [0, 1]


def test_goemotions_can_teach_its_own_labels(tmp_path: Path):
    path = write_split(tmp_path / "train.tsv.gz", 50, seed=1)
    catalogue = label_catalogue("goemotions", [path])
    rows = read_rows("goemotions", [path, path], catalogue)
    assert catalogue.ids == LABELS
    assert rows.q.shape == (100, 28)
    assert rows.q.sum() == 100


_TWO = """
[[attributes]]
id = "{}"
name = "one"
version = 1
definition = "One."
includes = ["one"]
positive_examples = ["lol"]
target_precision = 0.7
target_recall = 0.6
"""


def command(catalogue: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topology.cli", "distil", *map(str, arguments)],
        env={**os.environ, "VIBESTREAM_CATALOGUE": str(catalogue)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_distils_silver_labels_for_the_catalogue(tmp_path: Path):
    words = {"funny": "lol", "eerie": "ghost"}
    texts = [f"the {word} number {i % 7}" for i in range(60) for word in words.values()]
    rows = [
        {**row(video=f"v{i}", attribute=name, q=0.9 if word in text else 0.1), "text": text}
        for i, text in enumerate(texts)
        for name, word in words.items()
    ]
    path, out, catalogue = write_rows(tmp_path / "silver.parquet", rows), tmp_path / "out", tmp_path / "catalogue.toml"
    catalogue.write_text(_TWO.format("funny") + _TWO.format("eerie"))
    done = command(catalogue, path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"{out / 'nano' / '1'}: macro F1 1.0000" in done.stdout
    assert "US dollars per 1,000 uploads like these texts" in done.stdout
    assert [a.id for a in load_bundle(out / "nano" / "1").manifest.attributes] == ["funny", "eerie"]

    done = command(catalogue, path, "--out", out, "--space", out / "nano" / "1")
    assert done.returncode == 0, done.stderr
    assert f"{out / 'nano' / '2'}: macro F1 1.0000" in done.stdout
    assert load_bundle(out / "nano" / "2").manifest.training.space == "nano 1"
    done = command(catalogue, path, "--out", out, "--space", out / "nano" / "1", "--tier", "nano")
    assert (done.returncode, "leave --tier, --media and the like out" in done.stderr) == (2, True)

    catalogue.write_text(_TWO.format("funny") + _TWO.format("eerie") + _TWO.format("cosy"))
    done = command(catalogue, path, "--out", out)
    assert (done.returncode, "none of the 120 given texts has a label of cosy" in done.stderr) == (2, True)


def test_calibration_is_exact_where_the_logits_are_off_by_scale_and_offset():
    rng = np.random.default_rng(1)
    truth = rng.normal(-1, 2, (20_000, 1)).astype(np.float32)
    labels = (rng.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    distorted = (3 * truth + 1)[None]
    platt = fit_platt(distorted, labels, np.ones_like(labels))
    np.testing.assert_allclose(calibrated(distorted, platt), 1 / (1 + np.exp(-truth)), atol=0.02)
