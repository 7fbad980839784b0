"""Reading video-uploads: an upload, or the take-down that a record without value means."""

import re
from typing import NamedTuple

from schemas.errors import InvalidRecord
from schemas.events import VideoUpload
from schemas.wire import Decoder
from streams.record import Record
from streams.stage import record_key

RECEIVED_HEADER = "vibestream-received-ms"
"""When the broker first took a record that is now sent again, as decimal digits."""

_DAY_MS = 86_400_000


class TakeDown(NamedTuple):
    """A video is to leave the store and all candidate lists."""

    video_id: str


class UploadDecoder:
    """Decodes the records of video-uploads."""

    def __init__(self) -> None:
        self._uploads = Decoder(VideoUpload)

    def decode(self, record: Record) -> VideoUpload | TakeDown:
        """Return the event in `record`.

        Raises:
            InvalidRecord: it can't be decoded, its key is not its video_id, or its time lies in the future.

        """
        video_id = record_key(record)
        if record.timestamp_ms < 0:
            raise InvalidRecord("impossible", "the record has no timestamp, so it can't be ordered")
        if record.value is None:
            return TakeDown(video_id)
        upload = self._uploads.decode(record.value)
        if upload.video_id != video_id:
            raise InvalidRecord("impossible", f"key {video_id!r} is not video_id {upload.video_id!r}; key by video_id")
        if upload.uploaded_at_ms > record.timestamp_ms + _DAY_MS:
            raise InvalidRecord(
                "impossible",
                f"uploaded_at_ms {upload.uploaded_at_ms} is more than a day after the broker received it "
                f"({record.timestamp_ms}); send epoch milliseconds",
            )
        return upload


def received_ms(record: Record) -> int:
    """When the broker took this record, or the one that it repeats: what came between outranks a repeated take-down.

    Whoever sends a header can only make a record older by it.
    """
    if not record.headers:
        return record.timestamp_ms
    first = dict(record.headers).get(RECEIVED_HEADER) or b""
    return min(int(first), record.timestamp_ms) if re.fullmatch(rb"\d{1,15}", first) else record.timestamp_ms


def content_ms(record: Record, event: VideoUpload | TakeDown) -> int:
    """When this content came to be, as `Annotation.content_ms` will say."""
    received = received_ms(record)
    return received if isinstance(event, TakeDown) else min(event.uploaded_at_ms, received)
