import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ConfigurationError
from schemas.events import VideoUpload
from schemas.wire import Decoder
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.replay import message, read_events, send
from topology.settings import Settings
from topology.topics import VIDEO_UPLOADS

LINES = [
    b'{"schema_version":1,"video_id":"a","creator_id":"c","uploaded_at_ms":1}',
    b'{"schema_version":1,"video_id":"b","creator_id":"c","uploaded_at_ms":2}',
    b"this is no JSON",
    b'{"no":"key"}',
]


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_lines_arrive_as_they_are_keyed_by_the_field_of_their_topic(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    content = b"\n".join(LINES) + b"\n\n"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    producer = ConfirmedProducer(settings)
    sent = send(producer, (message(settings, VIDEO_UPLOADS, event) for event in read_events(path)))
    producer.close()
    assert sent == 4
    arrived = {record.value: record.key for record in read_topic(settings, VIDEO_UPLOADS, quiet_s=0.5)}
    assert arrived == {LINES[0]: b"a", LINES[1]: b"b", LINES[2]: b"", LINES[3]: b""}


def test_rows_of_parquet_become_valid_events_without_their_nulls(tmp_path: Path) -> None:
    path = tmp_path / "uploads.parquet"
    rows = [
        {
            "schema_version": 1,
            "video_id": "a",
            "creator_id": "c",
            "uploaded_at_ms": 1,
            "title": "Tea",
            "language": None,
        },
        {"schema_version": 1, "video_id": "b", "creator_id": "c", "uploaded_at_ms": 2, "title": None, "language": "en"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    decoder = Decoder(VideoUpload)
    uploads = [decoder.decode(event) for event in read_events(path)]
    found = [(upload.video_id, upload.title, upload.language) for upload in uploads]
    assert found == [
        ("a", "Tea", None),
        ("b", "", "en"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("events.txt", b"x", "name it .jsonl or .parquet"),
        ("missing.jsonl", None, "No such file"),
        ("broken.jsonl.gz", b"not gzip", "Not a gzipped file"),
        ("broken.parquet", b"not parquet", "broken.parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        list(read_events(tmp_path / name))
