"""The catalogue of videos in memory: what restricted retrieval scans."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from monitoring import metrics
from schemas.annotation import Annotation
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError, InvalidRecord
from schemas.table import check_annotation

log = logging.getLogger(__name__)

Float32s = npt.NDArray[np.float32]
RecordBatches = Iterable[Any]
"""Of pyarrow.RecordBatch, which has no types, with `Snapshot.columns` of the attribute table or more."""

OPEN = -1
_VIDEO_COLUMNS = (
    "video_id", "seq", "status", "creator_id", "language", "uploaded_at_ms", "received_at_ms", "vector",
)  # fmt: skip


@dataclass(frozen=True)
class VideoView:
    """What a watch learns of its video: attributes by id (1 where present, else the student's p) and its vector.

    Attributes that are decided absent, or unknown, are left out.
    """

    probabilities: dict[str, float]
    vector: Float32s | None


class Snapshot:
    """All videos as growing arrays, one row each. Not thread-safe: load, apply and read it from one thread.

    Attribute arrays are [attributes, videos]: retrieval reads one attribute of every video.
    """

    def __init__(self, catalogue: Catalogue, dim: int) -> None:
        """`dim` is the length of the student's embeddings."""
        self.catalogue = catalogue
        self.dim = dim
        self.attribute_index = {attribute: i for i, attribute in enumerate(catalogue.ids)}
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._creator_index: dict[str, int] = {}
        self._language_index: dict[str, int] = {}
        attributes = len(catalogue.ids)
        self._vectors = np.empty((0, dim), np.float32)
        self._probabilities = np.empty((attributes, 0), np.float32)
        self._labels = np.empty((attributes, 0), np.int8)
        self._uploaded_at_ms = np.empty(0, np.int64)
        self._creators = np.empty(0, np.int32)
        self._languages = np.empty(0, np.int32)
        self._seqs = np.empty(0, np.int64)
        self._alive = np.empty(0, np.bool_)
        self._has_vector = np.empty(0, np.bool_)

    def __len__(self) -> int:
        """Rows, those of removed videos included."""
        return len(self._ids)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the attribute table that `load` reads."""
        attributes = (f"{column}_{attribute}" for attribute in self.catalogue.ids for column in ("p", "label"))
        return (*_VIDEO_COLUMNS, *attributes)

    @property
    def vectors(self) -> Float32s:
        """[n, dim], L2-normalised; zeros where there is none."""
        return self._vectors[: len(self)]

    @property
    def probabilities(self) -> Float32s:
        """[attributes, n]; NaN where unknown."""
        return self._probabilities[:, : len(self)]

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """[attributes, n]: 1 present, 0 absent, -1 open."""
        return self._labels[:, : len(self)]

    @property
    def uploaded_at_ms(self) -> npt.NDArray[np.int64]:
        """[n], never later than the broker received the upload."""
        return self._uploaded_at_ms[: len(self)]

    @property
    def creators(self) -> npt.NDArray[np.int32]:
        """[n], a number per creator; -1 where unknown."""
        return self._creators[: len(self)]

    @property
    def languages(self) -> npt.NDArray[np.int32]:
        """[n], a number per language; -1 where unknown."""
        return self._languages[: len(self)]

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """[n]: not removed and with a vector."""
        return self._alive[: len(self)] & self._has_vector[: len(self)]

    def row(self, video_id: str) -> int | None:
        """Return the row of a video, removed or not; None if it was never seen."""
        return self._rows.get(video_id)

    def video_id(self, row: int) -> str:
        """Return the video of a row."""
        return self._ids[row]

    def view(self, video_id: str) -> VideoView | None:
        """Return what is known of a video; None if it is unknown or removed."""
        row = self._rows.get(video_id)
        if row is None or not self._alive[row]:
            return None
        labels = self._labels[:, row]
        weights = np.where(labels == OPEN, self._probabilities[:, row], labels)
        probabilities = {a: p for a, p in zip(self.catalogue.ids, weights.tolist(), strict=True) if p > 0.0}
        return VideoView(probabilities, self._vectors[row].copy() if self._has_vector[row] else None)

    def load(self, batches: RecordBatches) -> None:
        """Add rows of the attribute table, unless a row of the same or a later seq is here already.

        Raises:
            ConfigurationError: the table's vectors have another dimension.

        """
        for batch in batches:
            self._load(batch)
        self._observe()

    def apply(self, annotations: Sequence[Annotation]) -> None:
        """Take over annotations in any order; one of a lower or equal seq than its video's changes nothing.

        What the table can't hold is left out here as well.
        """
        for annotation in annotations:
            try:
                check_annotation(annotation, self.catalogue, self.dim)
            except InvalidRecord as error:
                log.warning("not in the snapshot: %s", error)  # the store role files it as a dead letter
                continue
            self._apply(annotation)
        self._observe()

    def _observe(self) -> None:
        metrics.SNAPSHOT_VIDEOS.set(int(np.count_nonzero(self._alive[: len(self)])))

    def _apply(self, annotation: Annotation) -> None:
        row = self._claim(annotation.video_id, annotation.seq)
        if row is None:
            return
        self._alive[row] = alive = annotation.status != "removed"
        self._uploaded_at_ms[row] = annotation.content_ms
        self._creators[row] = _number(self._creator_index, annotation.creator_id)
        self._languages[row] = _number(self._language_index, annotation.language)
        self._labels[:, row] = OPEN
        self._probabilities[:, row] = np.nan
        vector = np.zeros(self.dim, np.float32)
        if alive:
            for attribute, score in annotation.attributes.items():
                index = self.attribute_index[attribute]
                self._probabilities[index, row] = score.p
                self._labels[index, row] = OPEN if score.label is None else score.label
            if annotation.embedding is not None:
                vector = np.frombuffer(annotation.embedding, "<f2").astype(np.float32)
        self._write_vectors(np.array([row]), vector[np.newaxis])

    def _load(self, batch: Any) -> None:
        claimed = [
            (source, row)
            for source, (video_id, seq) in enumerate(
                zip(batch.column("video_id").to_pylist(), batch.column("seq").to_pylist(), strict=True)
            )
            if (row := self._claim(video_id, seq)) is not None
        ]
        source, rows = np.array(claimed, np.intp).reshape(-1, 2).T
        alive = [status != "removed" for status in batch.column("status").to_pylist()]
        self._alive[rows] = np.array(alive, np.bool_)[source]
        received = batch.column("received_at_ms")
        uploaded = batch.column("uploaded_at_ms").fill_null(np.iinfo(np.int64).max)
        self._uploaded_at_ms[rows] = np.minimum(_column(uploaded), _column(received))[source]
        creators = [_number(self._creator_index, value) for value in batch.column("creator_id").to_pylist()]
        self._creators[rows] = np.array(creators, np.int32)[source]
        languages = [_number(self._language_index, value) for value in batch.column("language").to_pylist()]
        self._languages[rows] = np.array(languages, np.int32)[source]
        for attribute, index in self.attribute_index.items():
            self._probabilities[index, rows] = _column(batch.column(f"p_{attribute}").fill_null(np.nan))[source]
            labels = batch.column(f"label_{attribute}").cast(pa.int8()).fill_null(OPEN)
            self._labels[index, rows] = _column(labels)[source]
        self._write_vectors(rows, self._vectors_of(batch.column("vector"))[source])

    def _vectors_of(self, column: Any) -> Float32s:
        if column.type.list_size != self.dim:
            raise ConfigurationError(
                f"the table holds vectors of {column.type.list_size} dimensions, the student's have {self.dim}; "
                "start the session role with the bundle that annotates"
            )
        vectors = np.zeros((len(column), self.dim), np.float32)
        vectors[_column(column.is_valid())] = _column(column.flatten()).reshape(-1, self.dim)
        return vectors

    def _write_vectors(self, rows: npt.NDArray[np.intp], vectors: Float32s) -> None:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        usable = np.isfinite(norms) & (norms > 0.0)
        self._vectors[rows] = np.where(usable, vectors, 0.0) / np.where(usable, norms, 1.0)
        self._has_vector[rows] = usable[:, 0]

    def _claim(self, video_id: str, seq: int) -> int | None:
        """Return the row to write, or None if what it holds is as new."""
        row = self._rows.get(video_id)
        if row is None:
            row = len(self._ids)
            self._reserve(row + 1)
            self._rows[video_id] = row
            self._ids.append(video_id)
        elif seq <= self._seqs[row]:
            return None
        self._seqs[row] = seq
        return row

    def _reserve(self, rows: int) -> None:
        if rows <= len(self._alive):
            return
        capacity = max(1_024, 2 * len(self._alive))
        self._vectors = _grown(self._vectors, capacity, axis=0)
        self._probabilities = _grown(self._probabilities, capacity, axis=1)
        self._labels = _grown(self._labels, capacity, axis=1)
        self._uploaded_at_ms = _grown(self._uploaded_at_ms, capacity, axis=0)
        self._creators = _grown(self._creators, capacity, axis=0)
        self._languages = _grown(self._languages, capacity, axis=0)
        self._seqs = _grown(self._seqs, capacity, axis=0)
        self._alive = _grown(self._alive, capacity, axis=0)
        self._has_vector = _grown(self._has_vector, capacity, axis=0)


def _grown(array: npt.NDArray[Any], capacity: int, axis: int) -> npt.NDArray[Any]:
    shape = list(array.shape)
    shape[axis] = capacity - shape[axis]
    return np.concatenate([array, np.zeros(shape, array.dtype)], axis=axis)


def _number(index: dict[str, int], value: str | None) -> int:
    return -1 if value is None else index.setdefault(value, len(index))


def _column(column: Any) -> npt.NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)
