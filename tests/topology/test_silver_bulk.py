"""Labelling a silver sample at half the price."""

import json
from pathlib import Path

import pytest
from pyarrow import parquet

from models.silver_corpus import Sampled, read_corpus, write_sample
from models.silver_labels import LABELS
from schemas.attributes import load_catalogue
from tests.fakes.gemini_batch import batch_server
from tests.fakes.gemini_server import GeminiServer
from topology.bulk import Bulk
from topology.settings import Settings
from topology.silver import label


@pytest.mark.parametrize("bulk", ["batch", "flex"])
async def test_a_sample_is_labelled_by_jobs_or_at_the_flex_tier_and_never_asked_twice(
    bulk: Bulk, gemini: GeminiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, sample = tmp_path / "corpus.jsonl", tmp_path / "sample.csv"
    corpus.write_text("\n".join(json.dumps({"video_id": f"v{i}", "text": f"funny {i}"}) for i in range(40)))
    write_sample(sample, [Sampled(video, "uniform", 1.0) for video in read_corpus([corpus])])
    async with batch_server() as batches:
        batches.polls = 0
        settings = Settings(
            llm="gemini", gemini_api_key="key", llm_state=str(tmp_path / "state"),
            gemini_base_url=batches.url if bulk == "batch" else gemini.url,
        )  # fmt: skip
        for _ in range(2):
            assert await label(settings, sample, tmp_path / "out", None, bulk=bulk)
        assert len(batches.created) == (bulk == "batch")
    rows = parquet.read_table(tmp_path / "out" / LABELS).to_pylist()
    assert len({row["video_id"] for row in rows}) == 40
    assert {row["attribute"] for row in rows} <= set(load_catalogue().ids)
    first, second = (line for line in capsys.readouterr().err.splitlines() if "videos to label" in line)
    assert first.startswith("40 videos to label by gemini-2.5-flash")
    assert second.startswith("0 videos to label")
