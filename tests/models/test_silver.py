"""Sampling a silver set with known chances, and keeping what was answered."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from models.annotator import Answered, Declined, Postponed, Verdict
from models.cascade import BandLimits
from models.distil_rows import read_labels
from models.silver_corpus import Sampled, Video, read_corpus, read_sample, write_sample
from models.silver_journal import JOURNAL, Entry, Journal, entry, header
from models.silver_labels import FAILURES, LABELS, UNCLEAR, Counts, export, read_answers
from models.silver_sample import NEAR_SHARE, STRATA, clusters, draw, near_edges, shares
from schemas.annotation import AnnotatorVersion
from schemas.errors import ConfigurationError
from tests.fakes.attributes import catalogue

CATALOGUE = catalogue("calm", "funny")
ANNOTATOR = AnnotatorVersion("gemini", "flash", "rubric", 1, "abc")


def corpus(videos: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """A tenth is near; clusters of very different sizes."""
    near = np.arange(videos) % 10 == 3
    return near, np.searchsorted([videos // 2, videos - 20, videos - 3], np.arange(videos), side="right")


def test_the_size_is_as_asked_and_no_video_comes_twice():
    for size in (1, 7, 40, 399):
        drawn = draw(*corpus(), size=size, seed=size)
        assert len(set(drawn.index.tolist())) == size


def test_everything_is_taken_where_more_is_asked_than_there_is():
    drawn = draw(*corpus(), size=1_000, seed=1)
    assert drawn.index.tolist() == list(range(400))
    assert (drawn.probability == 1).all()


def test_the_stored_probability_is_how_often_a_video_is_drawn():
    near, cluster = corpus(100)
    draws, times, uniform = 4_000, np.zeros(100), np.zeros(100)
    stated = np.zeros(100)
    for seed in range(draws):
        drawn = draw(near, cluster, 20, seed)
        times[drawn.index] += 1
        stated[drawn.index] = drawn.probability
        uniform[drawn.index[drawn.stratum == 0]] += 1
    deviation = np.sqrt(draws * stated * (1 - stated)) + 1e-9
    assert (np.abs(times - draws * stated) < 5 * deviation + 1e-6).all()
    assert (np.abs(uniform - draws * 0.1) < 5 * np.sqrt(draws * 0.1 * 0.9)).all(), "the uniform stratum is uniform"


def test_weighing_by_the_inverse_estimates_a_total_without_bias():
    near, cluster = corpus(300)
    value = np.where(near, 5.0, 1.0) + cluster
    estimates = []
    for seed in range(600):
        drawn = draw(near, cluster, 40, seed)
        estimates.append((value[drawn.index] / drawn.probability).sum())
    assert np.mean(estimates) == pytest.approx(value.sum(), abs=4 * np.std(estimates) / np.sqrt(600))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.data())
def test_shares_add_up_to_the_size_and_none_is_above_one(videos: int, data: st.DataObject):
    size = data.draw(st.integers(1, videos - 1))
    near = np.array(data.draw(st.lists(st.booleans(), min_size=videos, max_size=videos)))
    cluster = np.array(data.draw(st.lists(st.integers(0, 4), min_size=videos, max_size=videos)), np.intp)
    uniform, others = shares(near, cluster, size)
    probability = uniform + others.sum(axis=0)
    assert probability.sum() == pytest.approx(size, rel=1e-6)
    assert (probability <= 1 + 1e-9).all()
    assert (probability >= uniform).all()


def test_half_is_uniform_and_small_clusters_and_near_videos_are_drawn_more_often():
    near, cluster = corpus()
    uniform, others = shares(near, cluster, 40)
    by_stratum = np.array([uniform * 400, *others.sum(axis=1)])
    np.testing.assert_allclose(by_stratum, [20, 10, 10], rtol=0.35)
    assert by_stratum[0] == pytest.approx(20)
    probability = uniform + others.sum(axis=0)
    assert probability[near & (cluster == 0)].min() > 2 * probability[~near & (cluster == 0)].max()
    assert probability[cluster == 3].min() > 2 * probability[cluster == 0].min()


def test_near_are_those_at_an_edge_of_any_attribute_and_an_edge_of_one_is_none():
    p = np.full((100, 2), 0.01, np.float32)
    p[:5, 0] = 0.3
    p[5:10, 1] = 0.6
    p[50:, 0] = 0.999
    bands = {"calm": BandLimits(0.3, 1.0), "funny": BandLimits(0.6, 0.8)}
    near = near_edges(p, bands, ("calm", "funny"))
    assert np.flatnonzero(near).tolist() == list(range(round(NEAR_SHARE * 100)))
    closed = {"calm": BandLimits(0.0, 1.0), "funny": BandLimits(1.0, 1.0)}
    assert not near_edges(p, closed, ("calm", "funny")).any()


def test_vectors_that_lie_together_are_one_cluster():
    rng = np.random.default_rng(1)
    where = np.repeat(np.eye(4), 25, axis=0)
    found = clusters((where + rng.normal(0, 0.01, where.shape)).astype(np.float16), 4, seed=1)
    groups = [set(found[at : at + 25].tolist()) for at in range(0, 100, 25)]
    assert all(len(group) == 1 for group in groups)
    assert len(clusters(np.zeros((3, 4), np.float16), 50, seed=1)) == 3


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.parquet"])
def test_a_corpus_is_read_from_any_format_and_videos_without_text_are_left_out(tmp_path: Path, name: str):
    path = tmp_path / name
    if name.endswith("jsonl"):
        path.write_text(
            '{"video_id": "1", "text": "a b"}\n{"video_id": "2", "text": ""}\n{"video_id": "3", "text": "c"}'
        )
    elif name.endswith("csv"):
        path.write_text('video_id,text\n1,a b\n2,\n3,"c"\n')
    else:
        parquet.write_table(pa.table({"video_id": [1, 2, 3], "text": ["a b", None, "c"]}), path)
    assert read_corpus([path]) == [Video("1", "a b"), Video("3", "c")]


def test_a_corpus_of_uploads_becomes_the_text_that_the_student_reads(tmp_path: Path):
    path = tmp_path / "uploads.jsonl"
    path.write_text('{"video_id": "1", "title": "Bread", "hashtags": ["SlowFood"], "description": "crust"}')
    assert read_corpus([path]) == [Video("1", "Bread\nSlow Food\ncrust")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("video_id,text\n1,a\n1,b\n", "row 2: video '1' is there twice"),
        ("video_id,text\n,a\n", "row 1 has no video_id"),
        ("id,words\n1,a\n", "give video_id"),
        ("video_id,text\n1,a,b\n", "c.csv"),
    ],
)
def test_a_corpus_that_cannot_be_joined_by_id_is_refused(tmp_path: Path, content: str, says: str):
    path = tmp_path / "c.csv"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=says):
        read_corpus([path])


def sample(count: int = 3) -> list[Sampled]:
    return [Sampled(Video(f"v{i}", f"text, {i}\nline", "en"), STRATA[i % 3], 0.5 / (i + 1)) for i in range(count)]


@pytest.mark.parametrize("name", ["s.csv", "s.parquet"])
def test_a_sample_survives_its_file(tmp_path: Path, name: str):
    write_sample(tmp_path / name, sample())
    assert read_sample(tmp_path / name) == sample()


def test_a_sample_without_probabilities_is_refused(tmp_path: Path):
    path = tmp_path / "s.csv"
    path.write_text("video_id,text\n1,a\n")
    with pytest.raises(ConfigurationError, match="no column sampling_prob"):
        read_sample(path)
    path.write_text("video_id,text,sampling_prob\n1,a,0\n")
    with pytest.raises(ConfigurationError, match="row 1: sampling_prob is 0"):
        read_sample(path)


@pytest.fixture
def about(tmp_path: Path):
    write_sample(tmp_path / "s.csv", sample())
    return header(tmp_path / "s.csv", ANNOTATOR, CATALOGUE)


def test_what_was_appended_is_there_again_and_a_cut_off_line_is_taken_back(tmp_path: Path, about):
    with Journal(tmp_path, about) as journal:
        journal.append([Entry("v0", {"calm": True, "funny": None})])
        journal.append([Entry("v1", declined="blocked")])
    whole = (tmp_path / JOURNAL).read_bytes()
    for end in range(len(whole) - 1, whole.rindex(b"\n", 0, -1), -1):
        (tmp_path / JOURNAL).write_bytes(whole[:end])
        with Journal(tmp_path, about) as journal:
            assert list(journal.entries) == ["v0"]
            journal.append([Entry("v1", declined="blocked")])
        assert (tmp_path / JOURNAL).read_bytes() == whole


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path, about):
    (tmp_path / JOURNAL).write_bytes(b'{"sample":"ab')
    with Journal(tmp_path, about) as journal:
        assert not journal.entries
    with Journal(tmp_path, about) as journal:
        journal.append([Entry("v0", declined="x")])


def test_another_sample_annotator_or_attribute_does_not_go_into_the_same_journal(tmp_path: Path, about):
    with Journal(tmp_path, about):
        pass
    others = {
        "another sample": header(Path(__file__), ANNOTATOR, CATALOGUE),
        r"prompt rubric 1 \(abc\) and not with .* rubric 2": header(
            tmp_path / "s.csv", AnnotatorVersion("gemini", "flash", "rubric", 2, "abd"), CATALOGUE
        ),
        "other attributes": header(tmp_path / "s.csv", ANNOTATOR, catalogue("calm")),
    }
    for says, other in others.items():
        with pytest.raises(ConfigurationError, match=says):
            Journal(tmp_path, other)


def test_a_damaged_line_in_the_middle_is_named_and_two_processes_do_not_share(tmp_path: Path, about):
    with Journal(tmp_path, about) as journal:
        journal.append([Entry("v0", declined="x"), Entry("v1", declined="x")])
        with pytest.raises(ConfigurationError, match="in use"):
            Journal(tmp_path, about)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(lines[0] + b'{"video_id"\n' + lines[2])
    with pytest.raises(ConfigurationError, match="line 2"):
        Journal(tmp_path, about)


def test_a_killed_writer_leaves_what_append_returned_for(tmp_path: Path, about):
    script = (
        "import os, signal, sys; from pathlib import Path; from models.silver_journal import *;"
        "from tests.models.test_silver import ANNOTATOR, CATALOGUE;"
        "folder = Path(sys.argv[1]); journal = Journal(folder, header(folder / 's.csv', ANNOTATOR, CATALOGUE));"
        "journal.append([Entry('v0', declined='x')]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    with Journal(tmp_path, about) as journal:
        assert list(journal.entries) == ["v0"]


def test_only_what_will_never_change_is_kept():
    assert entry("v", Answered({"calm": Verdict(True), "funny": Verdict(None)})) == Entry(
        "v", {"calm": True, "funny": None}
    )
    assert entry("v", Declined("blocked")) == Entry("v", declined="blocked")
    assert entry("v", Postponed("no money")) is None


def test_labels_are_joined_by_id_failures_have_their_reason_and_distil_reads_it(tmp_path: Path):
    entries = {
        "v2": Entry("v2", {"calm": False, "funny": True}),
        "v1": Entry("v1", declined="blocked"),
        "v0": Entry("v0", {"calm": None, "funny": False}),
    }
    counts = export(tmp_path, sample(4), CATALOGUE, entries)
    assert counts == Counts(videos=4, labelled=3, failed=3, left=2)
    failures = (tmp_path / FAILURES).read_text()
    for row in (f'"v0","calm","{UNCLEAR}"', '"v1","calm","blocked"', '"v1","funny","blocked"'):
        assert row in failures
    rows = read_labels([tmp_path / LABELS], CATALOGUE)
    found = dict(zip(rows.texts, zip(rows.q.tolist(), (rows.weight > 0).tolist(), strict=True), strict=True))
    assert found == {
        "text, 0\nline": ([0.0, 0.0], [False, True]),
        "text, 2\nline": ([0.0, 1.0], [True, True]),
    }
    assert not rows.golden.any()


def test_weights_have_mean_one_over_the_sample_and_are_in_proportion(tmp_path: Path):
    entries = {f"v{i}": Entry(f"v{i}", {"calm": True, "funny": True}) for i in range(3)}
    export(tmp_path, sample(), CATALOGUE, entries)
    table = parquet.read_table(tmp_path / LABELS).to_pylist()
    weights = {row["video_id"]: row["weight"] for row in table}
    assert sum(weights.values()) == pytest.approx(3)
    assert weights["v2"] == pytest.approx(3 * weights["v0"])


def test_answers_of_a_file_are_joined_by_id_whatever_their_order(tmp_path: Path):
    path = tmp_path / "answers.csv"
    path.write_text("video,attribute,label\nv2,funny,1\nother,calm,1\nv0,calm,0\nv0,funny,-1\n")
    entries = read_answers(path, sample(), CATALOGUE)
    assert {video: found.verdicts for video, found in entries.items()} == {
        "v0": {"calm": False, "funny": None},
        "v1": {"calm": None, "funny": None},
        "v2": {"calm": None, "funny": True},
    }
