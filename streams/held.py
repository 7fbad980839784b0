"""The videos of a table that a worker met, in memory: a snapshot of some."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.annotation import Annotation
from streams.retriever import Int32s
from streams.snapshot import Snapshot

_NEVER_ANNOTATED = 1 << 21  # below it: no annotation has such a seq


class Held(Snapshot):
    """A snapshot with rows for videos of which nothing but their name is known yet."""

    def seqs(self, rows: Int32s) -> npt.NDArray[np.int64]:
        """Return the seq of each row's annotation; -1 for no row."""
        if not len(self):
            return np.full(len(rows), -1, np.int64)
        return np.where(rows < 0, -1, self._seqs[rows])

    def uploaded_at(self, rows: Int32s) -> npt.NDArray[np.int64]:
        """Return when rows were uploaded, never later than the broker received them."""
        return self._uploaded_at_ms[rows]

    def is_known(self, video_id: str) -> bool:
        """Tell whether more than the name is known of a video."""
        return bool(self.seqs(self.find([video_id]))[0] >= _NEVER_ANNOTATED)

    def name(self, video_ids: Sequence[str]) -> Int32s:
        """Return the row of each video; one that has none gets one, as that of a video that can't be served."""
        rows = self.find(video_ids)
        fresh = sorted({video_id for video_id, row in zip(video_ids, rows.tolist(), strict=True) if row < 0})
        if fresh:
            self.apply([_nothing(video_id) for video_id in fresh])
            rows = self.find(video_ids)
        return rows


def _nothing(video_id: str) -> Annotation:
    return Annotation(schema_version=1, video_id=video_id, status="removed", received_at_ms=0, annotated_at_ms=0)
