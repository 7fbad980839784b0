"""What is written in the frames of a video, read by RapidOCR with the models that its package brings; needs `ocr`."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.media.decode import Decoded
from models.media.extract import MOST_CHARACTERS, Kind
from schemas.errors import ConfigurationError

PIXELS = 960
"""Of a frame's long side: where captions stay readable, and one frame takes a core about 0.15 s."""
_DETECTOR, _READER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"
_LEAST_SURE = 0.6
_MOST_LINES = 50
"""Of a frame: each costs, and a page of small print is no caption."""

Grey = NDArray[np.uint8]


class OnScreenText:
    """Reads frames in `places` threads, each with its models (about 150 MB); a line that stays is read once."""

    kind: Kind = "on_screen"

    def __init__(self, readers: Sequence[Any]) -> None:
        self._readers: SimpleQueue[Any] = SimpleQueue()
        for reader in readers:
            self._readers.put(reader)
        self._threads = ThreadPoolExecutor(len(readers), thread_name_prefix="on-screen")

    @classmethod
    def load(cls, places: int = 2) -> Self:
        """Start the readers; blocks for about a second. Nothing is downloaded: the files are named.

        Raises:
            ConfigurationError: RapidOCR is not installed, or brings other models.

        """
        found = find_spec("rapidocr")
        if found is None or found.origin is None:
            raise ConfigurationError("rapidocr is not installed; reading text in videos needs vibestream[ocr]")
        from rapidocr import RapidOCR

        models = Path(found.origin).parent / "models"
        options = {
            "Global.log_level": "critical",
            "Global.use_cls": False,  # captions are not upside down
            "Global.text_score": _LEAST_SURE,
            "Global.max_side_len": PIXELS,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.model_path": str(models / _DETECTOR),
            "Det.limit_type": "max",
            "Det.limit_side_len": PIXELS,
            "Det.max_candidates": _MOST_LINES,
            "Rec.model_path": str(models / _READER),
        }
        readers = [RapidOCR(params=options) for _ in range(places)]
        blank = np.zeros((48, 320), np.uint8)
        try:
            for reader in readers:  # it loads each model when it is first used
                reader(blank, use_det=False)
                reader(blank, use_det=True)
        except Exception as error:  # whatever RapidOCR says of files
            raise ConfigurationError(
                f"rapidocr does not start with {_DETECTOR} and {_READER}: {error}; install vibestream[ocr] again"
            ) from error
        return cls(readers)

    async def extract(self, decoded: Decoded) -> str:
        """Return the lines in order of appearance."""
        enough = Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, decoded.whole, enough)
        finally:
            enough.set()  # where this was cancelled, the thread stops at the next frame

    async def close(self) -> None:
        """End the threads; what they read is finished first."""
        await asyncio.to_thread(self._threads.shutdown)

    def _read(self, frames: Sequence[Grey], enough: Event) -> str:
        reader = self._readers.get()
        try:
            return distinct(line for frame in frames if not enough.is_set() for line in _lines(reader, frame))
        finally:
            self._readers.put(reader)


def _lines(reader: Any, frame: Grey) -> Sequence[str]:
    return getattr(reader(np.ascontiguousarray(frame)), "txts", None) or ()


def distinct(lines: Iterable[str]) -> str:
    """Return each line once, as many as are kept of a text; case, spaces and punctuation make no other line."""
    kept: dict[str, str] = {}
    characters = 0
    for line in lines:
        key = "".join(c for c in line.casefold() if c.isalnum())
        if key and key not in kept:
            kept[key] = line.strip()
            characters += len(line) + 1
            if characters > MOST_CHARACTERS["on_screen"]:
                break
    return "\n".join(kept.values())
