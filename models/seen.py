"""What was seen and heard of a video, as the student takes it: vectors, and masks where there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True)
class Seen:
    """Frame vectors [frames, D] and a sound vector [S]; None: not there."""

    frames: NDArray[np.float16] | None = None
    sound: NDArray[np.float32] | None = None


NOTHING = Seen()


def media_inputs(session: "InferenceSession") -> Mapping[str, int]:
    """Return which of `frames` and `sound` a student's model takes, and how long their vectors are."""
    inputs = session.get_inputs()
    return {one.name: one.shape[-1] for one in inputs if one.name in ("frames", "sound")} if len(inputs) > 2 else {}


def media_feed(dims: Mapping[str, int], seen: Sequence[Seen]) -> dict[str, NDArray[Any]]:
    """Return what the model takes for videos of which this was seen; see `models.bundle.FramesInput`."""
    feed: dict[str, NDArray[Any]] = {}
    if "frames" in dims:
        most = max(1, *(0 if one.frames is None else len(one.frames) for one in seen))
        frames = np.zeros((len(seen), most, dims["frames"]), np.float32)
        mask = np.zeros((len(seen), most), np.float32)
        for i, one in enumerate(seen):
            if one.frames is not None:
                frames[i, : len(one.frames)] = one.frames
                mask[i, : len(one.frames)] = 1
        feed |= {"frames": frames, "frames_mask": mask}
    if "sound" in dims:
        sound = np.zeros((len(seen), dims["sound"]), np.float32)
        heard = np.zeros((len(seen), 1), np.float32)
        for i, one in enumerate(seen):
            if one.sound is not None:
                sound[i], heard[i] = one.sound, 1
        feed |= {"sound": sound, "sound_mask": heard}
    return feed
