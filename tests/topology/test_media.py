"""Videos through the real stream: broker, annotate and media workers; and one file from the shell."""

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from models.media_rows import read_media
from schemas.annotation import Annotation, Media
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.fused import colour_encoder, fused_bundle
from tests.fakes.media import BLUE, GREEN, RED, caption, video
from tests.processes import Processes, wait_until
from topology.attribute_store import open_table
from topology.audit import audit
from topology.cli import main
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.roles import build
from topology.settings import Settings, environment, with_changes
from topology.topics import ANNOTATIONS, REVIEW_REQUESTS, VIDEO_UPLOADS

SHIPPED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("fused")
    encoder = colour_encoder(folder / "encoder")
    return encoder, fused_bundle(folder, encoder)


def seeing(settings: Settings, made: tuple[Path, Path], *folders: Path) -> Settings:
    return with_changes(
        settings,
        frame_encoder=str(made[0]), bundle=str(made[1]), media_decode_s=60.0,
        media_allow=",".join(folder.as_uri() for folder in folders),
    )  # fmt: skip


def newest(settings: Settings) -> dict[str, Annotation]:
    """The annotation of highest order of each video."""
    decoder = Decoder(Annotation)
    found: dict[str, Annotation] = {}
    for record in read_topic(settings, ANNOTATIONS):
        one = decoder.decode(record.value or b"")
        if one.video_id not in found or one.seq > found[one.video_id].seq:
            found[one.video_id] = one
    return found


def test_videos_go_through_the_stream_and_text_does_not_wait_for_them(
    settings: Settings, made: tuple[Path, Path], processes: Processes, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    files = {
        "red": video(folder / "red.mp4", [(RED, 1)]),
        "green": video(folder / "green.webm", [(GREEN, 1)], codec="libvpx"),
        "blue": video(folder / "blue.mp4", [(BLUE, 1)], tone_hz=300),
    }
    real = {path.stem: path for path in sorted(SHIPPED.glob("*.mp4"))}
    (folder / "broken.mp4").write_bytes(b"no video")
    uris = {name: path.as_uri() for name, path in (files | real).items()}
    uris |= {"broken": (folder / "broken.mp4").as_uri(), "elsewhere": "http://169.254.169.254/latest/meta-data/"}
    configured = seeing(settings, made, folder, *([SHIPPED.resolve()] if real else []))
    uploads = [
        VideoUpload(schema_version=1, video_id=name, creator_id="c", uploaded_at_ms=now_ms(), title="we", media_uri=uri)
        for name, uri in uris.items()
    ]
    told = VideoUpload(schema_version=1, video_id="told", creator_id="c", uploaded_at_ms=now_ms(), title="tellsfunny")
    producer = ConfirmedProducer(configured)
    topic = configured.topic(VIDEO_UPLOADS)
    producer.produce_now([Message(topic, one.video_id.encode(), encode(one)) for one in (*uploads, told)])
    producer.close()

    processes.start(configured, "-m", "topology.cli", "worker", "annotate", log=tmp_path / "annotate.log")
    wait_until(lambda: len(newest(configured)) == len(uploads) + 1, 120, "every upload has its annotation by text")
    first = newest(configured)
    assert {name: one.media.status for name, one in first.items() if one.media} == dict.fromkeys(uris, "pending")
    asked_first = {record.key for record in read_topic(configured, REVIEW_REQUESTS)}

    pending = audit(configured, open_table(configured, load_catalogue()))
    assert pending.annotations.media_pending == len(uris)
    assert any("'red' was not looked at yet" in example for example in pending.examples)

    processes.start(configured, "-m", "topology.cli", "worker", "media", log=tmp_path / "media.log")
    processes.start(configured, "-m", "topology.cli", "worker", "store", log=tmp_path / "store.log")
    wait_until(
        lambda: all(one.looked_at for one in newest(configured).values() if one.media), 180, "every video was looked at"
    )
    wait_until(lambda: audit(configured, open_table(configured, load_catalogue())).ok, 60, "all is stored")
    done = audit(configured, open_table(configured, load_catalogue()))
    assert (done.annotations.media_pending, done.examples) == (0, ())
    last = newest(configured)
    assert last["told"] == first["told"]
    statuses = {name: one.media.status for name, one in last.items() if one.media}
    assert statuses == {**dict.fromkeys([*files, *real], "used"), "broken": "unreadable", "elsewhere": "refused"}
    for name in [*files, *real]:
        one = last[name]
        assert one.media is not None
        assert one.media.frames > 0
        vector, before = (np.frombuffer(a.embedding or b"", "<f2").astype(np.float32) for a in (one, first[name]))
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-2)
        assert vector @ before < 0.99, name
    for name, attribute in (("red", "eerie"), ("green", "funny"), ("blue", "heartwarming")):
        assert max(last[name].attributes, key=lambda key: last[name].attributes[key].p) == attribute
    for name in ("broken", "elsewhere"):
        labels = [{key: score.label for key, score in one.attributes.items()} for one in (last[name], first[name])]
        assert labels[0] == labels[1]
    asked = {record.key for record in read_topic(configured, REVIEW_REQUESTS)}
    open_ = {name.encode() for name, one in last.items() if one.status == "provisional"}
    assert (asked_first & {name.encode() for name in uris}, open_ <= asked) == (set(), True)


def test_a_media_worker_that_could_do_nothing_refuses_to_start(
    settings: Settings, made: tuple[Path, Path], tmp_path: Path
) -> None:
    ready = seeing(settings, made, tmp_path)
    other = colour_encoder(tmp_path / "other")
    (other / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    for changes, says in (
        ({"media_allow": ""}, "VIBESTREAM_MEDIA_ALLOW is empty"),
        ({"bundle": ""}, "reads text only"),
        ({"frame_encoder": ""}, "VIBESTREAM_FRAME_ENCODER"),
        ({"frame_encoder": str(tmp_path)}, "frame-encoder build"),
        ({"media_allow": f"{tmp_path.as_uri()}/none"}, "is no folder"),
        ({"media_extractors": "ocr,speech"}, "'speech' is neither ocr nor module:factory"),
        ({"media_extractors": "no_such:make"}, "no_such:make gives no extractor: ModuleNotFoundError"),
        ({"media_extractors": "tests.fakes.extractors:make"}, "gives no extractor: AttributeError"),
        ({"media_extractors": "json:loads"}, "gives no extractor: TypeError"),
        ({"media_extractors": "tests.fakes.extractors:Smell"}, "has kind 'smelt'; let it be on_screen or heard"),
        ({"media_extractors": "tests.fakes.extractors:Hasty"}, "has no async method extract"),
        ({"media_extractors": "tests.fakes.extractors:Speech," * 2}, "two make text that is heard"),
    ):

        async def start(changes: dict[str, str] = changes) -> None:
            build(with_changes(ready, **changes), "media")

        with pytest.raises(ConfigurationError) as error:
            asyncio.run(start())
        assert says in str(error.value)
        assert "\n" not in str(error.value)


def test_a_student_that_only_reads_is_given_what_is_written_and_said_in_videos(
    settings: Settings, processes: Processes, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    path = video(folder / "a.mp4", [(caption("I love my grandma so much"), 1)], size=(640, 360), tone_hz=300)
    configured = with_changes(
        settings, media_allow=folder.as_uri(), media_decode_s=60.0, media_extract_s=60.0, media_speech_s=0.5,
        media_extractors="ocr, tests.fakes.extractors:Speech",
    )  # fmt: skip
    upload = VideoUpload(
        schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=now_ms(), title="we", media_uri=path.as_uri()
    )
    producer = ConfirmedProducer(configured)
    producer.produce_now([Message(configured.topic(VIDEO_UPLOADS), b"v", encode(upload))])
    producer.close()
    for role in ("annotate", "media"):
        processes.start(configured, "-m", "topology.cli", "worker", role, log=tmp_path / f"{role}.log")
    wait_until(lambda: "v" in newest(configured) and newest(configured)["v"].looked_at, 180, "the video was looked at")
    one = newest(configured)["v"]
    assert one.media == Media("used", on_screen=True, heard=True)
    assert one.attributes["heartwarming"].p > 0.9


def test_one_file_from_the_shell_shows_frames_scores_bands_and_source(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    gemini: "object",
) -> None:  # fmt: skip
    path = video(tmp_path / "red.mp4", [(RED, 2)])
    settings = with_changes(
        Settings(), llm="gemini", gemini_api_key="key", gemini_base_url=gemini.url, llm_state=str(tmp_path / "llm"),
        frame_encoder=str(made[0]), bundle=str(made[1]), media_decode_s=60.0,
    )  # fmt: skip
    for name, value in environment(settings).items():
        if name.startswith(("VIBESTREAM_", "GEMINI")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main(["annotate", str(path), "--title", "a funny day"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0, shown
    assert "video: used; 4 frames at 0.2, 0.7, 1.2, 1.7 s" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["eerie"][0] > "0.50"
    assert rows["funny"][2:5] == ["yes", "llm", "funny"]
    for name in ("VIBESTREAM_BUNDLE", "VIBESTREAM_FRAME_ENCODER"):
        monkeypatch.setenv(name, "")
    with pytest.raises(SystemExit):
        main(["annotate", str(path), "--title", "a funny day"])
    assert "video: unused; student nano 1 reads text only" in capsys.readouterr().out
    monkeypatch.setenv("VIBESTREAM_MEDIA_EXTRACTORS", "ocr")
    path = video(tmp_path / "written.mp4", [(caption("I love my grandma so much"), 1)], size=(640, 360))
    with pytest.raises(SystemExit):
        main(["annotate", str(path)])
    shown = capsys.readouterr().out
    assert "video: used; on screen “I love my grandma so much”" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["heartwarming"][0] > "0.90"


def test_a_corpus_is_looked_at_once_for_distilling(
    settings: Settings, made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / "videos"
    folder.mkdir()
    red = video(folder / "red.mp4", [(RED, 1)], tone_hz=500)
    uploads = [
        VideoUpload(schema_version=1, video_id=name, creator_id="c", uploaded_at_ms=1, media_uri=uri)
        for name, uri in (("red", red.as_uri()), ("gone", f"{folder.as_uri()}/gone.mp4"), ("text", None))
    ]
    source, out = tmp_path / "uploads.jsonl", tmp_path / "media.parquet"
    source.write_bytes(b"".join(encode(one) + b"\n" for one in uploads))
    for name, value in environment(seeing(settings, made, folder)).items():
        if name.startswith("VIBESTREAM_"):
            monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["media", "embed", str(source), "--out", str(out), "--sound"])
    assert (ended.value.code, "1 unavailable, 1 used" in capsys.readouterr().out) == (0, True)
    media = read_media(out, ("gone", "red"))
    assert (media.has_frames.tolist(), media.has_sound.tolist()) == ([False, True], [False, True])
    assert media.frames[1][0] > media.frames[1][1]
    rows = parquet.read_table(out).to_pylist()
    assert {row["video_id"]: row["status"] for row in rows} == {"red": "used", "gone": "unavailable"}
    assert isinstance(parquet.read_schema(out), pa.Schema)
