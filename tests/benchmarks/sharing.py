"""What it costs that no request holds videos of two creators.

`python -m tests.benchmarks.sharing --real FOLDER` lets the default student read the GoEmotions dev texts, as if the
creators of KuaiRand-Pure's videos had uploaded them in the order of that file's days, and forecasts the requests for
what it leaves open: as the stream asks (runs of 32) and as a corpus is asked (all at once). Prints one JSON line.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from models.annotator import Question
from models.bundle import default_bundle
from models.cascade import decide
from models.gemini import ApiKey, Gemini
from models.goemotions import LABELS, read_goemotions
from models.isolation import Sharing, grouped
from models.llm_cost import price_of
from models.llm_forecast import forecast
from models.student import Student
from schemas.attributes import Catalogue, load_catalogue
from schemas.events import VideoUpload

MODEL, RUN, SIZE = "gemini-2.5-flash", 32, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, required=True)
    options = parser.parse_args()
    catalogue = load_catalogue()
    questions = asyncio.run(_questions(options.real, catalogue))
    llm, price = Gemini(catalogue, ApiKey("none"), model=MODEL), price_of(MODEL)
    result: dict[str, float] = {"items": len(questions), "creators": len({q.upload.creator_id for q in questions})}
    for name, run in (("stream", RUN), ("corpus", len(questions))):
        for sharing in ("creator", "anyone"):
            expected = forecast(llm, _requests(questions, run, sharing))
            result[f"{name}_{sharing}_requests_per_item"] = round(expected.requests / len(questions), 3)
            result[f"{name}_{sharing}_usd_per_1000"] = round(1_000 * price.usd(expected.likely) / len(questions), 4)
    print(json.dumps(result))


def _requests(questions: Sequence[Question], run: int, sharing: Sharing) -> list[list[Question]]:
    runs = [questions[at : at + run] for at in range(0, len(questions), run)]
    return [request for one in runs for request in grouped(one, lambda question: question, SIZE, sharing)]


async def _questions(real: Path, catalogue: Catalogue) -> list[Question]:
    texts = read_goemotions(real / "goemotions_dev.tsv.gz", LABELS, catalogue).texts
    videos = pq.read_table(real / "kuairand_pure_item_features.parquet", columns=["author_id", "upload_dt"])
    creators = videos.sort_by("upload_dt").column("author_id").to_pylist()
    student = Student.load(default_bundle(), catalogue)
    probability = (await student.score(texts)).probability
    student.close()
    made: list[Question] = []
    for i, (text, row) in enumerate(zip(texts, probability, strict=True)):
        scores = decide(row, student.bands, student.ids)
        open_ = tuple(name for name, score in scores.items() if score.label is None)
        upload = VideoUpload(
            schema_version=1, video_id=f"v{i}", creator_id=str(creators[i]), uploaded_at_ms=0, title=text[:500]
        )
        if open_:
            made.append(Question(upload, open_, alone=not set(open_).isdisjoint(catalogue.policy_ids)))
    return made


if __name__ == "__main__":
    main()
