"""A thousand videos through annotate and media, one in twenty broken: how fast, where time goes, and is all accounted.

`python -m tests.benchmarks.media --videos 1000` prints one line of JSON; with `--ocr` the frames are read. Stages,
decoders, MobileNetV2 and a fused student are real; there is no broker between the stages. Shares are of the seconds
that files spent being decoded and runs being encoded. `rss_ratio` is the memory in the last quarter over that in the
second, decoders included. `text_ratio`: videos a CPU-second of the text path with media allowed over that without,
interleaved, best of fifteen.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from prometheus_client import REGISTRY

from models.bundle import FramesInput, default_bundle
from models.distil import Title, distil
from models.distil_formats import SOURCES
from models.distil_rows import Rows
from models.fused import fit_fused
from models.media.decode import DecodePool, Plan
from models.media.extract import Extractors
from models.media.fetch import MediaFetcher
from models.media.frame_encoder import FrameEncoder
from models.media.look import Looker
from models.media.on_screen import PIXELS, OnScreenText
from models.media.rules import MediaRules
from models.media_rows import EmbeddedWith, MediaRows
from models.student import Student
from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.annotate import AnnotateStage
from streams.media import MediaStage
from streams.record import Effects, Record
from tests.fakes.media import BROKEN, caption, video
from tests.fakes.mobilenet import mobilenet_encoder

RUN, FRAMES, BROKEN_EVERY = 16, 4, 20
NOW_MS = 1_750_000_000_000
TOPICS = {"annotations": "annotations", "review_requests": "review-requests", "dead_letters": "dead-letters"}


def fused(out: Path, encoder: FrameEncoder) -> Path:
    """A student whose inputs are right and whose labels mean nothing."""
    manifest, rng, ids = encoder.manifest, np.random.default_rng(1), load_catalogue().ids
    label = np.arange(450) % len(ids)
    texts = [f"the video tells{ids[a]} day" for a in label]
    q = np.eye(len(ids), dtype=np.float32)[label]
    frames = rng.random((len(label), manifest.dim), np.float32)
    there, none = np.ones(len(label), np.bool_), np.zeros(len(label), np.bool_)
    made = EmbeddedWith(FramesInput(manifest.name, manifest.sha256, manifest.dim, FRAMES), None)
    media = MediaRows(frames, there, np.zeros((len(label), 0), np.float32), none, made)
    rows = Rows(texts, q, np.ones_like(q), np.ones(q.shape, np.bool_), [str(i) for i in range(len(label))], media)
    return distil(
        fit_fused(rows, 1, lambda: None), rows, None, load_catalogue(), Title("fused", 1, SOURCES["silver"], 1), out
    )


def files(folder: Path, count: int, *, ocr: bool) -> list[Path]:
    """Short videos, no two alike, and among them every kind of broken one."""
    rng = np.random.default_rng(2)
    kinds = list(BROKEN)
    made: list[Path] = []
    for i in range(count):
        if i % BROKEN_EVERY == BROKEN_EVERY - 1:
            name = kinds[i // BROKEN_EVERY % len(kinds)]
            made.append(BROKEN[name][0](folder / f"{i}-{name}"))
        else:
            colours = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(4)]
            written = [(caption(f"video number {i}", size=(320, 568)), 2.0)]
            scenes = written if ocr else [(colour, 0.5) for colour in colours]
            made.append(video(folder / f"{i}.mp4", scenes, size=(320, 568), fps=8,
                              options={"preset": "ultrafast"}))  # fmt: skip
    return made


def spent(step: str) -> float:
    return REGISTRY.get_sample_value("vibestream_media_seconds_sum", {"step": step}) or 0.0


def resident_mb(pids: list[int]) -> float:
    """Of this process and the decoders that wait."""
    total = 0
    for pid in ["self", *pids]:
        status = Path(f"/proc/{pid}/status")
        if status.exists():
            total += int(next(line for line in status.read_text().splitlines() if line.startswith("VmRSS")).split()[1])
    return total / 1024


def annotations(effects: Effects) -> list[Annotation]:
    decode = Decoder(Annotation).decode
    return [decode(one.value or b"") for one in effects.messages if one.topic == "annotations"]


async def run(count: int, *, ocr: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "videos"
        folder.mkdir()
        encoder = FrameEncoder.load(mobilenet_encoder(root / "encoder"))
        bundle = fused(root, encoder)
        paths = files(folder, count, ocr=ocr)
        pool = DecodePool(2)
        extractors = Extractors([OnScreenText.load(2)] if ocr else [], 60.0)
        taken = Plan(FRAMES, whole=PIXELS if ocr else 0)
        looker = Looker(MediaFetcher(MediaRules([folder.as_uri()])), pool, taken, encoder, extractors)
        annotate = AnnotateStage(Student.load(bundle, load_catalogue()), media_requests="media-requests", **TOPICS)
        media = MediaStage(Student.load(bundle, load_catalogue()), looker, **TOPICS)
        first: set[str] = set()
        last: dict[str, Annotation] = {}
        resident: list[float] = []
        started = time.perf_counter()
        for at in range(0, count, RUN):
            uploads = [
                VideoUpload(
                    schema_version=1, video_id=path.name, creator_id="c", uploaded_at_ms=NOW_MS, title="the day",
                    media_uri=path.as_uri(),
                )
                for path in paths[at : at + RUN]
            ]  # fmt: skip
            effects = await annotate.run(
                [
                    Record("video-uploads", 0, i, NOW_MS, one.video_id.encode(), encode(one))
                    for i, one in enumerate(uploads)
                ]
            )
            first |= {one.video_id for one in annotations(effects)}
            requests = [one for one in effects.messages if one.topic == "media-requests"]
            effects = await media.run(
                [Record("media-requests", 0, i, NOW_MS, one.key, one.value) for i, one in enumerate(requests)]
            )
            last |= {one.video_id: one for one in annotations(effects)}
            resident.append(resident_mb(pool.pids))
        seconds = time.perf_counter() - started
        await media.close()
        await annotate.close()
        statuses = Counter(one.media.status for one in last.values() if one.media and one.looked_at)
        decoding, encoding, quarter = spent("decode"), spent("encode"), len(resident) // 4
        reading = {"reading_s": round(spent("on_screen"), 1)} if ocr else {}
        return {
            "videos_per_s": round(count / seconds, 1),
            "decode_share": round(decoding / (decoding + encoding), 3),
            "encode_share": round(encoding / (decoding + encoding), 3),
            "peak_rss_mb": round(max(resident)),
            "uploads": count,
            "accounted": len(first & last.keys()),
            "statuses": dict(statuses),
            **reading,
            "rss_ratio": round(np.mean(resident[-quarter:]) / np.mean(resident[quarter : 2 * quarter]), 3),
        }


async def text_ratio() -> float:
    """Of the default student's text path, with a list of what may be fetched and without one."""
    uploads = [
        VideoUpload(
            schema_version=1, video_id=str(i), creator_id="c", uploaded_at_ms=NOW_MS, title=f"grandpa learns {i}"
        )
        for i in range(1_000)
    ]
    records = [
        Record("video-uploads", 0, i, NOW_MS, one.video_id.encode(), encode(one)) for i, one in enumerate(uploads)
    ]
    stages = [
        AnnotateStage(Student.load(default_bundle(), load_catalogue()), media_requests=topic, **TOPICS)
        for topic in (None, "media-requests")
    ]
    best = [float("inf")] * 2
    for _ in range(15):
        for i, stage in enumerate(stages):
            started = time.process_time()
            for _ in range(3):
                await stage.run(records)
            best[i] = min(best[i], time.process_time() - started)
    for stage in stages:
        await stage.close()
    return round(best[0] / best[1], 3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=1_000)
    parser.add_argument("--ocr", action="store_true")
    options = parser.parse_args()
    result = asyncio.run(run(options.videos, ocr=options.ocr))
    print(json.dumps({**result, "text_ratio": asyncio.run(text_ratio())}))


if __name__ == "__main__":
    main()
