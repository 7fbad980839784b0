"""What was seen and heard of the videos that a student learns from, joined to its texts; needs the extra `train`.

A file, Parquet, has one row per video: `video_id`; `frames`, a list of its frames' vectors, or null; `sound`, a vector,
or null. `vibestream media embed` writes it, with the encoder's name and sha256 in the file's metadata.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray
from pyarrow import parquet

from models.bundle import FramesInput, SoundInput
from models.seen import Seen
from schemas.errors import ConfigurationError

Floats = NDArray[np.float32]
METADATA = b"vibestream.media"


class EmbeddedWith(Struct, frozen=True):
    """How the vectors of a file came to be; None: there are none of that kind."""

    frames: FramesInput | None = None
    sound: SoundInput | None = None


@dataclass(frozen=True)
class MediaRows:
    """Mean frame vectors [n, D] and sound vectors [n, S], zero where `has_frames` [n] and `has_sound` [n] are not.

    The student's graph takes the mean over a video's frames itself; the mean is all that it knows of them.
    """

    frames: Floats
    has_frames: NDArray[np.bool_]
    sound: Floats
    has_sound: NDArray[np.bool_]
    made: EmbeddedWith

    def __getitem__(self, index: NDArray[np.intp]) -> "MediaRows":
        """Return some of the videos."""
        return MediaRows(
            self.frames[index], self.has_frames[index], self.sound[index], self.has_sound[index], self.made
        )

    def seen(self) -> list[Seen]:
        """Return what the graph is given."""
        return [
            Seen(
                self.frames[i][None].astype(np.float16) if self.has_frames[i] else None,
                self.sound[i] if self.has_sound[i] else None,
            )
            for i in range(len(self.frames))
        ]


def read_media(path: Path, videos: tuple[str, ...]) -> MediaRows:
    """Read what was seen of `videos`, in this order; those that are not in the file have nothing.

    Raises:
        ConfigurationError: the file can't be read, knows none of the videos, or holds vectors of other lengths than it
            says.

    """
    try:
        table = parquet.read_table(path, columns=["video_id", "frames", "sound"])
        made = msgspec.json.decode((table.schema.metadata or {})[METADATA], type=EmbeddedWith)
    except (OSError, pa.ArrowException, KeyError, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"{path}: {error}; give a file that `vibestream media embed` wrote") from error
    place = {video: i for i, video in enumerate(videos)}
    frames = np.zeros((len(videos), made.frames.dim if made.frames else 0), np.float32)
    sound = np.zeros((len(videos), made.sound.dim if made.sound else 0), np.float32)
    has_frames, has_sound = np.zeros(len(videos), np.bool_), np.zeros(len(videos), np.bool_)
    for row in table.to_pylist():
        i = place.get(row["video_id"])
        if i is None:
            continue
        if row["frames"] and frames.shape[1]:
            frames[i], has_frames[i] = _vector(path, row, "frames", frames.shape[1]).mean(axis=0), True
        if row["sound"] and sound.shape[1]:
            sound[i], has_sound[i] = _vector(path, row, "sound", sound.shape[1]), True
    if not (has_frames.any() or has_sound.any()):
        raise ConfigurationError(
            f"{path}: nothing of the {len(videos)} labelled videos is in it; their video_id must agree"
        )
    return MediaRows(frames, has_frames, sound, has_sound, made)


def _vector(path: Path, row: dict[str, Any], name: str, dim: int) -> Floats:
    try:
        found = np.asarray(row[name], np.float32)
    except ValueError as error:
        raise ConfigurationError(f"{path}: video {row['video_id']!r}: {name}: {error}; embed again") from error
    if found.shape[-1] != dim or not np.isfinite(found).all():
        raise ConfigurationError(
            f"{path}: video {row['video_id']!r}: {name} is not of {dim} finite numbers; embed again"
        )
    return found
