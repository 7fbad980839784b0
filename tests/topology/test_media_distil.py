"""From labelled videos to a student that sees, by the commands that docs/media.md names."""

import csv
from pathlib import Path

import numpy as np
import pytest

from models.bundle import load_manifest
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import encode
from tests.fakes.fused import SEEN, colour_encoder
from tests.fakes.media import video
from topology.cli import main

_FILMS, _VIDEOS, _TEXTS = 4, 40, 12


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0, arguments


def films(folder: Path) -> dict[str, list[Path]]:
    """By attribute, videos in shades of its colour."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    return {
        attribute: [
            video(
                folder / f"{attribute}-{n}.mp4",
                [(tuple(int(v) for v in np.clip(colour + rng.normal(0, 15, 3), 0, 255)), 1)],
                size=(64, 64),
            )
            for n in range(_FILMS)
        ]
        for attribute, colour in SEEN.items()
    }


def write_corpus(made: dict[str, list[Path]], uploads: Path, labels: Path) -> None:
    """Videos that only their colour tells apart, and texts with one attribute each."""
    rows = [(f"v-{a}-{i}", "the day was", a, paths[i % _FILMS]) for a, paths in made.items() for i in range(_VIDEOS)]
    rows += [(f"t-{a}-{i}", f"the day was tells{a}", a, None) for a in load_catalogue().ids for i in range(_TEXTS)]
    uploads.write_bytes(
        b"".join(
            encode(
                VideoUpload(
                    schema_version=1, video_id=name, creator_id="c", uploaded_at_ms=1, title=text,
                    media_uri=path.as_uri() if path else None,
                )
            )
            + b"\n"
            for name, text, _, path in rows
        )
    )  # fmt: skip
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "text", "attribute", "label", "source"])
        for name, text, has, _ in rows:
            writer.writerows((name, text, a, int(a == has), "silver") for a in load_catalogue().ids)


def test_a_student_that_sees_comes_of_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = films(tmp_path / "videos")
    uploads, labels, media = tmp_path / "uploads.jsonl", tmp_path / "labels.csv", tmp_path / "media.parquet"
    write_corpus(made, uploads, labels)
    monkeypatch.setenv("VIBESTREAM_FRAME_ENCODER", str(colour_encoder(tmp_path / "encoder")))
    monkeypatch.setenv("VIBESTREAM_MEDIA_ALLOW", (tmp_path / "videos").as_uri())
    monkeypatch.setenv("VIBESTREAM_MEDIA_DECODE_S", "60")
    monkeypatch.setenv("COLUMNS", "200")

    run("media", "embed", str(uploads), "--out", str(media))
    assert f"{len(SEEN) * _VIDEOS} used" in capsys.readouterr().out
    run("distil", str(labels), "--media", str(media), "--out", str(tmp_path / "students"))
    bundle = tmp_path / "students" / "fused" / "1"
    frames = load_manifest(bundle).frames
    assert frames is not None
    assert (frames.encoder, frames.count) == ("colours", 8)

    monkeypatch.setenv("VIBESTREAM_BUNDLE", str(bundle))
    capsys.readouterr()
    for attribute, colour in SEEN.items():
        unseen = video(tmp_path / f"{attribute}.mp4", [(colour, 1)], size=(96, 64))
        run("annotate", str(unseen), "--title", "the day was")
        shown = capsys.readouterr().out
        assert "video: used; 8 frames at" in shown
        likeliest_first = [line.split()[0] for line in shown.partition("evidence")[2].splitlines() if line.strip()]
        assert likeliest_first[0] == attribute, shown
