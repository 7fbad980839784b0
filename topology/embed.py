"""Looks at the videos of a corpus once, for a student that shall be distilled with what is in them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from models.bundle import FramesInput, SoundInput
from models.media.frame_encoder import FrameEncoder
from models.media.look import Look, Looker
from models.media.sound import DIM
from models.media_rows import METADATA, EmbeddedWith
from schemas.errors import ConfigurationError, InvalidRecord
from schemas.events import VideoUpload
from schemas.wire import Decoder
from topology.media import make_fetcher, make_pool, media_rules, plan
from topology.replay import read_events
from topology.settings import Settings

_RUN = 32
_SOUND_S = 30.0


async def embed(
    settings: Settings, source: Path, out: Path, *, sound: bool, progress: Callable[[int], None] = lambda _: None
) -> Mapping[str, int]:
    """Write what is seen (and heard) of each upload's video to `out`; return how many ended with each status.

    Raises:
        ConfigurationError: nothing may be fetched, there is no encoder, or a file can't be read or written.

    """
    if not media_rules(settings).any:
        raise ConfigurationError("VIBESTREAM_MEDIA_ALLOW is empty: no video may be looked at; list what may be fetched")
    if not (settings.frame_encoder or sound):
        raise ConfigurationError("set VIBESTREAM_FRAME_ENCODER, or give --sound: there is nothing to look for")
    encoder = FrameEncoder.load(Path(settings.frame_encoder), settings.provider) if settings.frame_encoder else None
    taken = replace(plan(settings, None, encoder), sound_s=_SOUND_S if sound else 0.0)
    made = EmbeddedWith(
        FramesInput(encoder.manifest.name, encoder.manifest.sha256, encoder.manifest.dim, taken.frames)
        if encoder
        else None,
        SoundInput("log-mel-64", DIM, _SOUND_S) if sound else None,
    )
    schema = pa.schema(
        [
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("frames", pa.list_(pa.list_(pa.float16()))),
            pa.field("sound", pa.list_(pa.float32())),
            pa.field("status", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
        ],
        metadata={METADATA: msgspec.json.encode(made)},
    )
    counts: dict[str, int] = {}
    looker = Looker(make_fetcher(settings), make_pool(settings), taken, encoder)
    uploads = _uploads(source)
    draft = out.with_name(f".{out.name}.draft")
    try:
        with parquet.ParquetWriter(draft, schema) as writer:
            while run := list(islice(uploads, _RUN)):
                looks = await looker.look(run)
                writer.write_table(pa.Table.from_pylist([_row(*pair) for pair in zip(run, looks, strict=True)], schema))
                for look in looks:
                    counts[look.media.status] = counts.get(look.media.status, 0) + 1
                progress(len(run))
        draft.replace(out)
    except OSError as error:
        raise ConfigurationError(f"{out}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
        await looker.close()
    return counts


def _uploads(source: Path) -> Iterator[VideoUpload]:
    decode = Decoder(VideoUpload).decode
    for number, event in enumerate(read_events(source), 1):
        try:
            upload = decode(event)
        except InvalidRecord as error:
            raise ConfigurationError(f"{source}, event {number}: {error}") from error
        if upload.media_uri is not None:
            yield upload


def _row(upload: VideoUpload, look: Look) -> dict[str, object]:
    frames, sound = look.seen.frames, look.seen.sound
    return {
        "video_id": upload.video_id,
        "frames": None if frames is None else [list(np.asarray(one)) for one in frames],
        "sound": None if sound is None else sound.tolist(),
        "status": look.media.status,
        "reason": look.media.reason,
    }
