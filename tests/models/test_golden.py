import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.golden import GoldenSet, check_versions, read_golden, read_manifest, release_reads, split_of, write_golden
from models.golden_labels import labels_of, report
from models.golden_rows import read_ratings
from models.truth import golden_task
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError

CATALOGUE = load_catalogue()
DEV = [f"v{i}" for i in range(300) if split_of(f"v{i}") == "dev"]

Row = dict[str, Any]


def row(video: str = DEV[0], rater: str = "r1", label: object = 1, **changes: object) -> Row:
    given = {"video": video, "attribute": "funny", "rater": rater, "label": label, "unsure": 0, "stratum": "uniform"}
    return {**given, "sampling_prob": 0.5, "text": f"text of {video}"} | changes


def csv_file(folder: Path, rows: list[Row]) -> Path:
    path = folder / "ratings.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def imported(folder: Path, rows: list[Row], split: str = "dev") -> GoldenSet:
    path = csv_file(folder, rows)
    write_golden(folder / "set", read_ratings([path], CATALOGUE), CATALOGUE, [path])
    return read_golden(folder / "set", release_for=None if split == "dev" else "a test")


def test_csv_and_parquet_are_read_alike(tmp_path: Path):
    rows = [row(), row(rater="r2", label=0), row(rater="r3", label=-1, unsure=1), row(DEV[1], attribute="eerie")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ratings.parquet")
    from_csv = read_ratings([csv_file(tmp_path, rows)], CATALOGUE)
    assert from_csv == read_ratings([tmp_path / "ratings.parquet"], CATALOGUE)
    assert [rating.label for rating in from_csv] == [True, False, None, True]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": "maybe"}, "label 'maybe': give 1, 0, or -1"),
        ({"label": ""}, "label '': give"),
        ({"unsure": "perhaps"}, "unsure 'perhaps'"),
        ({"sampling_prob": 0}, r"sampling_prob '0' is not in \(0, 1\]"),
        ({"sampling_prob": "nan"}, "sampling_prob 'nan'"),
        ({"attribute": "fuzzy"}, "'fuzzy' is not in the catalogue.*VIBESTREAM_CATALOGUE"),
        ({"rater": ""}, "rater ''"),
        ({"text": " "}, "there is no text"),
        ({"rater": "r1"}, "rated 'funny' of video .* already in ratings.csv row 2"),
        ({"text": "another"}, "has another text than in ratings.csv row 2"),
        ({"stratum": "near"}, "stratum 'near'.*differ from 'uniform'"),
        ({"sampling_prob": 1}, "sampling_prob 1.0 differ"),
    ],
)
def test_a_wrong_row_is_named_with_its_value_and_the_remedy(tmp_path: Path, changes: Row, says: str):
    path = csv_file(tmp_path, [row(), row(rater="r2") | changes])
    with pytest.raises(ConfigurationError, match=f"row 3: .*{says}"):
        read_ratings([path], CATALOGUE)


def test_all_wrong_rows_are_told_at_once(tmp_path: Path):
    path = csv_file(tmp_path, [row(rater=f"r{i}", label="x") for i in range(14)])
    with pytest.raises(ConfigurationError, match="(?s)row 2: .*row 11: .*and 4 more"):
        read_ratings([path], CATALOGUE)


def test_a_missing_column_and_an_unknown_format_are_named(tmp_path: Path):
    rows = [{name: value for name, value in row().items() if name != "sampling_prob"}]
    with pytest.raises(ConfigurationError, match="missing: sampling_prob"):
        read_ratings([csv_file(tmp_path, rows)], CATALOGUE)
    with pytest.raises(ConfigurationError, match="can't tell the format"):
        read_ratings([tmp_path / "ratings.xlsx"], CATALOGUE)


def test_a_third_of_the_videos_is_frozen_and_the_id_alone_decides_which(tmp_path: Path):
    assert 0.30 < Counter(split_of(str(i)) for i in range(20_000))["release"] / 20_000 < 0.36
    rows = [row(f"v{i}") for i in range(60)]
    dev = imported(tmp_path, rows)
    release = read_golden(tmp_path / "set", release_for="a test")
    videos = [{upload.video_id for upload in split.uploads} for split in (dev, release)]
    assert not videos[0] & videos[1]
    assert videos[0] | videos[1] == {f"v{i}" for i in range(60)}
    (tmp_path / "more").mkdir()
    again = imported(tmp_path / "more", rows[:30] + [row(f"w{i}") for i in range(30)], "release")
    assert {upload.video_id for upload in again.uploads} & {f"v{i}" for i in range(60)} <= videos[1]


def test_reading_the_release_test_is_recorded_and_reading_dev_is_not(tmp_path: Path):
    imported(tmp_path, [row(f"v{i}") for i in range(20)])
    assert release_reads(tmp_path / "set") == []
    read_golden(tmp_path / "set", release_for="prompt 3")
    assert [read.purpose for read in release_reads(tmp_path / "set")] == ["prompt 3"]


def test_a_golden_set_is_not_overwritten_and_not_read_when_changed(tmp_path: Path):
    imported(tmp_path, [row()])
    with pytest.raises(ConfigurationError, match="import to a new folder"):
        write_golden(tmp_path / "set", [], CATALOGUE, [])
    (tmp_path / "set" / "dev.parquet").write_bytes(b"other")
    with pytest.raises(ConfigurationError, match="not what was imported"):
        read_golden(tmp_path / "set")


def test_a_folder_without_a_golden_set_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="vibestream golden import FILE --out"):
        read_manifest(tmp_path)


def test_a_definition_that_changed_since_it_was_rated_is_refused():
    with pytest.raises(ConfigurationError, match=r"funny version 1 \(the catalogue: 2\)"):
        check_versions({"funny": 1}, {"funny": 2}, "the catalogue")
    check_versions({"funny": 1}, {"funny": 1, "eerie": 4}, "the catalogue")


def test_an_unsure_rater_gives_no_vote_and_is_no_negative(tmp_path: Path):
    golden = imported(tmp_path, [row(), row(rater="r2", unsure=1, label=0), row(rater="r3", label=-1)])
    assert golden.votes["funny"].counts.tolist() == [[0, 1]]
    assert golden.unsure.tolist() == [[2]]
    assert labels_of(golden, "funny").label.tolist() == [1]


def test_ties_and_items_that_all_were_unsure_of_are_not_known_until_adjudicated(tmp_path: Path):
    tie = [row(), row(rater="r2", label=0)]
    silent = [row(DEV[1], "r1", -1), row(DEV[1], "r2", -1)]
    golden = imported(tmp_path, tie + silent)
    assert labels_of(golden, "funny").label.tolist() == [-1, -1]
    assert (golden_task(golden, "set", ["funny"], "majority").truth.label == -1).all()
    (tmp_path / "again").mkdir()
    settled = imported(
        tmp_path / "again", [*tie, *silent, row(rater="adjudicated", label=0), row(DEV[1], "adjudicated")]
    )
    by_video = dict(zip([u.video_id for u in settled.uploads], labels_of(settled, "funny").label.tolist(), strict=True))
    assert by_video == {DEV[0]: 0, DEV[1]: 1}
    assert "adjudicated" not in settled.raters
    assert report(settled).to_adjudicate == []


def test_the_model_of_raters_is_used_only_where_three_of_them_overlap(tmp_path: Path):
    rows = [row(video, f"r{r}", int(i % 3 == 0)) for i, video in enumerate(DEV[:30]) for r in range(3)]
    pairs = [row(video, f"r{r}", 1, attribute="eerie") for video in DEV[:30] for r in range(2)]
    golden = imported(tmp_path, rows + pairs)
    assert labels_of(golden, "funny").method == "dawid_skene"
    assert labels_of(golden, "funny", "majority").method == "majority"
    assert labels_of(golden, "eerie").method == "majority"
    assert (labels_of(golden, "funny").label == 1).sum() == 10


def test_the_most_uncertain_items_come_first(tmp_path: Path):
    sure = [row(video, f"r{r}", int(i % 2)) for i, video in enumerate(DEV[:20]) for r in range(3)]
    split = [row(DEV[20], f"r{r}", int(r > 0)) for r in range(3)]
    silent = [row(DEV[21], f"r{r}", -1) for r in range(3)]
    found = report(imported(tmp_path, sure + split + silent))
    assert [doubt.video for doubt in found.to_adjudicate[:1]] == [DEV[21]]
    assert found.to_adjudicate[0].present is None
    assert set(DEV[:20]).isdisjoint(doubt.video for doubt in found.to_adjudicate)
    assert (found.attributes["funny"].items, found.attributes["funny"].unsure) == (22, 3)


def test_weights_are_one_over_the_sampling_probability(tmp_path: Path):
    rows = [row(), row(DEV[1], sampling_prob=1), row(DEV[1], attribute="eerie", sampling_prob=0.1)]
    truth = golden_task(imported(tmp_path, rows), "set", ["funny", "eerie"], "majority").truth
    weights = {video: weight.tolist() for video, weight in zip(truth.videos, truth.weight, strict=True)}
    assert weights == {DEV[0]: [2, 0], DEV[1]: [1, 10]}
    assert dict(zip(truth.videos, truth.label.tolist(), strict=True)) == {DEV[0]: [1, -1], DEV[1]: [1, 1]}


def test_a_long_text_is_kept_whole(tmp_path: Path):
    golden = imported(tmp_path, [row(text="word " * 500)])
    assert golden.uploads[0].transcript.split() == ["word"] * 500
