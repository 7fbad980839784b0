"""The catalogue of videos in memory: what restricted retrieval scans."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from monitoring import metrics
from schemas.annotation import Annotation
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError, InvalidRecord
from schemas.table import check_annotation, to_table
from streams.described import described
from streams.embeddings import Embeddings
from streams.memory import give_back
from streams.names import Int32s, Names, grown, pack, pack_column
from streams.near import Near
from streams.retriever import Described, Float32s, Found, Lane, Request, distinct, found_in
from streams.scan import ANY, CERTIFIED, DECIDED, PRESENT, Rows, log_table, write_bits, write_tops
from streams.search import AMONG, NEWEST, Query
from streams.timeline import Timeline
from streams.videos import VideoView

log = logging.getLogger(__name__)

Bools = npt.NDArray[np.bool_]
RecordBatches = Iterable[Any]
"""Of pyarrow.RecordBatch, which has no types, with `Snapshot.columns` of the attribute table or more."""

OPEN = -1
_MANY = 50_000  # new rows, for which columns grew several times
REASONS = ("", "unavailable", "policy", "too_old")
"""What keeps a row from being served, by the number that is held for it; 0: nothing."""
_TOO_OLD = 3
_LOGS = log_table()
_VIDEO_COLUMNS = (
    "video_id", "seq", "status", "creator_id", "language", "uploaded_at_ms", "received_at_ms", "vector",
)  # fmt: skip
_ATTRIBUTE_COLUMNS = ("p", "label", "certified")


class Snapshot:
    """All videos as growing columns, one row each: a Retriever. Not thread-safe: use it from one thread.

    A vector takes two bytes a dimension: 16-bit fixed point, whose high bytes a search scans and whose low bytes make
    exact what it found. Labels are bits, and so is whether a row may be served, kept as annotations come and time goes.
    """

    def __init__(self, catalogue: Catalogue, dim: int) -> None:
        """`dim` is the length of the student's embeddings. The first snapshot of a process compiles its code."""
        self._catalogue = catalogue
        self._dim = dim
        attributes = len(catalogue.ids)
        self.attribute_index = {attribute: i for i, attribute in enumerate(catalogue.ids)}
        self._policies = np.array([self.attribute_index[a] for a in catalogue.policy_ids], np.intp)
        self._names, self._creator_names, self._language_names = Names(), Names(), Names()
        self._timeline = Timeline()
        self._oldest_ms = -(2**62)
        self._embeddings = Embeddings(dim)
        self._p = np.empty((0, attributes), np.float16)
        self._marks = np.empty((0, attributes), np.uint8)
        self._tops = np.empty(0, np.float32)
        self._certified = np.empty((attributes, 0), np.uint64)  # as bits: all that a lane may take
        self._certified_counts = np.zeros(attributes, np.int64)
        self._uploaded_at_ms = np.empty(0, np.int64)
        self._creators = np.empty(0, np.int32)
        self._languages = np.empty(0, np.int32)
        self._seqs = np.empty(0, np.int64)
        self._alive = np.empty(0, np.bool_)
        self._reasons = np.empty(0, np.uint8)
        self._reason_counts = np.zeros(len(REASONS), np.int64)
        self._eligible = np.empty(0, np.uint64)
        self._eligible_by_language = np.zeros(1, np.int64)
        self._near = Near()
        _compile(self._embeddings.high.shape[1], catalogue)
        self._observe()

    def __len__(self) -> int:
        """Rows, those of removed videos included."""
        return len(self._names)

    @property
    def catalogue(self) -> Catalogue:
        """The attributes of the videos."""
        return self._catalogue

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self._dim

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the attribute table that `load` reads."""
        attributes = (f"{column}_{attribute}" for attribute in self.catalogue.ids for column in _ATTRIBUTE_COLUMNS)
        return (*_VIDEO_COLUMNS, *attributes)

    def row(self, video_id: str) -> int | None:
        """Return the row of a video, removed or not; None if it was never seen."""
        rows = self.rows([video_id])
        return int(rows[0]) if len(rows) else None

    def video_ids(self, rows: Sequence[int]) -> list[str]:
        """Return the videos of rows."""
        return self._names.strings(rows)

    def find(self, video_ids: Collection[str]) -> Int32s:
        """Return the row of each video, -1 where it has none."""
        return self._names.find(pack(tuple(video_ids)))

    def rows(self, video_ids: Collection[str]) -> Int32s:
        """Return the rows of videos that are known, in their order; of others nothing."""
        rows = self.find(video_ids)
        return rows[rows >= 0]

    def describe(self, rows: Int32s) -> Described:
        """Return what is known of rows."""
        columns = (*self._embeddings.columns, self._p.view(np.uint16), _LOGS, self._marks)
        return described(columns, rows, self._creators[rows])

    def uploaded_since(self, ms: int) -> Int32s:
        """Return the rows that were uploaded then or later, oldest first; whether they may be served or not."""
        return self._timeline.rows[self._timeline.position(self._uploaded_at_ms, ms) :]

    def language(self, row: int) -> str | None:
        """Return the language of a row."""
        number = int(self._languages[row])
        return None if number < 0 else self._language_names.strings([number])[0]

    def uploaded_at_ms(self, row: int) -> int:
        """Return when a row was uploaded, never later than the broker received it."""
        return int(self._uploaded_at_ms[row])

    def vector(self, row: int) -> Float32s | None:
        """Return the vector of a row, L2-normalised."""
        return self._embeddings.vector(row)

    def labels(self, row: int) -> npt.NDArray[np.int8]:
        """Return the labels of a row in catalogue order: 1 present, 0 absent, OPEN."""
        known = self.describe(np.array([row], np.int32))
        return np.where(known.open[0], OPEN, known.present[0]).astype(np.int8)

    def probabilities(self, row: int) -> Float32s:
        """Return the student's p of a row in catalogue order; NaN where unknown."""
        return self._p[row].astype(np.float32)

    def views(self, video_ids: Sequence[str]) -> list[VideoView | None]:
        """Return what is known of each video; None where it is unknown or removed."""
        made: list[VideoView | None] = [None] * len(video_ids)
        rows = self.find(video_ids)
        at = np.flatnonzero(rows >= 0)
        at = at[self._alive[rows[at]]]
        known, p = self.describe(rows[at]), self._p[rows[at]]
        weights = np.where(known.open, p, known.present)
        with_vector = self._embeddings.has(rows[at]).tolist()
        for i, own, vector, has in zip(at.tolist(), weights.tolist(), known.vectors, with_vector, strict=True):
            probabilities = {a: p for a, p in zip(self.catalogue.ids, own, strict=True) if p > 0.0}
            made[i] = VideoView(probabilities, vector if has else None)
        return made

    def shed(self, kept: Int32s) -> None:
        """Forget nothing; see Videos."""

    def search(self, requests: Sequence[Request], oldest_ms: int) -> Iterator[tuple[int, Found]]:
        """Yield what is found for each request, by its number; see Retriever.

        Raises:
            ConfigurationError: a lane is of an attribute that the catalogue does not have, or a vector has another
                dimension.

        """
        self._expire(oldest_ms)
        queries = [self._query(request) for request in requests]
        count = len(self)
        rows = Rows(
            self._embeddings.coarse, *self._embeddings.columns, self._p.view(np.uint16), _LOGS, self._tops,
            self._languages, self._eligible[: (count + 63) // 64], self._certified, self._marks,
        )  # fmt: skip
        removed, counts = [self._removed(query) for query in queries], self._certified_counts.tolist()
        for i, lanes in self._near.search(rows, self._timeline.rows, counts, queries, oldest_ms):
            yield i, found_in(lanes, removed[i])

    def _query(self, request: Request) -> Query:
        vector = np.zeros(self.dim, np.float32) if request.vector is None else request.vector
        if vector.shape != (self.dim,):
            raise ConfigurationError(f"a vector of {vector.shape} numbers, the snapshot's have {self.dim}")
        of_a_user = request.user and request.vector is not None
        seen = distinct(request.seen)
        spoken = np.full(len(self._eligible_by_language), request.languages is None)
        if request.languages is not None:
            numbers = self._language_names.find(pack(tuple(request.languages)))
            spoken[numbers[numbers >= 0]] = True
        return Query(
            vector=vector,
            weight=request.probability_weight,
            lanes=[(self._lane(lane), lane.k) for lane in request.lanes],
            seen=seen[(self._reasons[seen] == 0) & spoken[self._languages[seen]]],
            spoken=spoken,
            user=(request.user, request.languages, request.probability_weight) if of_a_user else None,
            asker=request.user,
            among={at: lane.among[::-1].copy() for at, lane in enumerate(request.lanes) if lane.among is not None},
        )

    def _lane(self, lane: Lane) -> int:
        if lane.newest or lane.among is not None:
            return NEWEST if lane.among is None else AMONG
        if lane.attribute is None:
            return ANY
        index = self.attribute_index.get(lane.attribute)
        if index is None:
            raise ConfigurationError(
                f"no attribute {lane.attribute!r} in the catalogue; there are {', '.join(self.catalogue.ids)}"
            )
        return index

    def _removed(self, query: Query) -> dict[str, int]:
        removed: dict[str, int] = dict(zip(REASONS[1:], self._reason_counts[1:].tolist(), strict=True))
        removed["language"] = int(self._eligible_by_language[~query.spoken].sum())
        removed["seen"] = len(query.seen)
        return {reason: count for reason, count in removed.items() if count}

    def load(self, batches: RecordBatches) -> None:
        """Add rows of the attribute table, unless a row of the same or a later seq is here already.

        Raises:
            ConfigurationError: the table's vectors have another dimension.

        """
        before = len(self)
        for batch in batches:
            self._load(batch)
        if len(self) > before + _MANY:
            give_back()
        self._observe()

    def apply(self, annotations: Sequence[Annotation]) -> None:
        """Take over annotations in any order; one of a lower or equal seq than its video's changes nothing.

        What the table can't hold is left out here as well.
        """
        fitting: list[Annotation] = []
        for annotation in annotations:
            try:
                check_annotation(annotation, self.catalogue, self.dim)
                fitting.append(annotation)
            except InvalidRecord as error:
                log.warning("not in the snapshot: %s", error)  # the store role files it as a dead letter
        if fitting:
            self.load(to_table(fitting, self.catalogue, self.dim, stored_at_ms=0).to_batches())

    def _observe(self) -> None:
        metrics.SNAPSHOT_VIDEOS.set(int(np.count_nonzero(self._alive[: len(self)])))

    def _load(self, batch: Any) -> None:
        before = len(self)
        rows = self._names.add(pack_column(batch.column("video_id")))
        self._reserve(len(self))
        self._seqs[before : len(self)] = -1
        source = self._newer(rows, _column(batch.column("seq")))
        batch, rows = batch.take(pa.array(source)), rows[source]
        self._seqs[rows] = _column(batch.column("seq"))
        self._alive[rows] = np.array(batch.column("status").to_pylist()) != "removed"
        self._write_times(rows, before, batch)
        self._creators[rows] = _numbers(self._creator_names, batch.column("creator_id"))
        languages = _numbers(self._language_names, batch.column("language"))
        known = rows < before
        self._count(rows[known], -1)
        self._languages[rows] = languages
        self._embeddings.write(rows, self._vectors_of(batch))
        for attribute, index in self.attribute_index.items():
            self._p[rows, index] = _column(batch.column(f"p_{attribute}").fill_null(np.nan))
            column = batch.column(f"label_{attribute}")
            labels = _column(column.fill_null(False))
            certified = labels & _column(batch.column(f"certified_{attribute}").fill_null(False))
            self._certified_counts[index] += write_bits(self._certified[index], rows, certified)
            self._marks[rows, index] = labels * PRESENT + _column(column.is_valid()) * DECIDED + certified * CERTIFIED
        write_tops(self._tops, rows, self._p.view(np.uint16), _LOGS, self._marks)
        self._reasons[rows] = self._reason(rows)
        self._count(rows, 1)
        write_bits(self._eligible, rows, self._reasons[rows] == 0)
        self._near.changed(rows)

    def _newer(self, rows: Int32s, seqs: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return where each row's highest seq stands, first of equals, if it is above that of the row."""
        order = np.lexsort((-np.arange(len(rows)), seqs, rows))
        last = np.append(rows[order][1:] != rows[order][:-1], True)[: len(order)]
        best = order[last]
        return best[seqs[best] > self._seqs[rows[best]]]

    def _write_times(self, rows: Int32s, before: int, batch: Any) -> None:
        uploaded = batch.column("uploaded_at_ms").fill_null(np.iinfo(np.int64).max)
        times = np.minimum(_column(uploaded), _column(batch.column("received_at_ms")))
        fresh = (rows >= before) | (self._uploaded_at_ms[rows] != times)
        for row in rows[fresh & (rows < before)].tolist():
            self._timeline.remove(self._uploaded_at_ms, row)
        self._uploaded_at_ms[rows] = times
        self._timeline.insert(self._uploaded_at_ms, rows[fresh])

    def _reason(self, rows: Int32s) -> npt.NDArray[np.uint8]:
        undecided = (self._marks[rows[:, np.newaxis], self._policies] != DECIDED).any(axis=1)
        unavailable = ~self._alive[rows] | ~self._embeddings.has(rows)
        old = self._uploaded_at_ms[rows] < self._oldest_ms
        return np.select([unavailable, undecided, old], [1, 2, _TOO_OLD], 0).astype(np.uint8)

    def _count(self, rows: Int32s, sign: int) -> None:
        languages = len(self._language_names) + 1
        if len(self._eligible_by_language) < languages:
            known, unknown = self._eligible_by_language[:-1], self._eligible_by_language[-1:]
            new = np.zeros(languages - len(self._eligible_by_language), np.int64)
            self._eligible_by_language = np.concatenate([known, new, unknown])
        reasons = self._reasons[rows]
        self._reason_counts += sign * np.bincount(reasons, minlength=len(REASONS))
        spoken = self._languages[rows[reasons == 0]] % languages  # -1, unknown, is the last
        self._eligible_by_language += sign * np.bincount(spoken, minlength=languages)

    def _expire(self, oldest_ms: int) -> None:
        """Move the bound of age; the clock may go back."""
        if oldest_ms == self._oldest_ms:
            return
        bounds = sorted(self._timeline.position(self._uploaded_at_ms, ms) for ms in (self._oldest_ms, oldest_ms))
        self._oldest_ms = oldest_ms
        rows = self._timeline.rows[slice(*bounds)]
        rows = rows[np.isin(self._reasons[rows], (0, _TOO_OLD))]
        if len(rows):
            self._count(rows, -1)
            self._reasons[rows] = self._reason(rows)
            self._count(rows, 1)
            write_bits(self._eligible, rows, self._reasons[rows] == 0)

    def _vectors_of(self, batch: Any) -> Float32s:
        column = batch.column("vector")
        if column.type.list_size != self.dim:
            raise ConfigurationError(
                f"the table holds vectors of {column.type.list_size} dimensions, the student's have {self.dim}; "
                "start the session role with the bundle that annotates"
            )
        vectors = np.zeros((len(column), self.dim), np.float32)
        vectors[_column(column.is_valid())] = _column(column.flatten()).reshape(-1, self.dim)
        return vectors

    def _reserve(self, rows: int) -> None:
        words = (rows + 63) // 64
        self._embeddings.reserve(rows)
        self._p = grown(self._p, rows)
        self._marks = grown(self._marks, rows)
        self._tops = grown(self._tops, 64 * words)
        self._certified = grown(self._certified, words, axis=1)
        self._uploaded_at_ms = grown(self._uploaded_at_ms, rows)
        self._creators = grown(self._creators, rows)
        self._languages = grown(self._languages, rows)
        self._seqs = grown(self._seqs, rows)
        self._alive = grown(self._alive, rows)
        self._reasons = grown(self._reasons, rows)
        self._eligible = grown(self._eligible, words)


def _numbers(names: Names, column: Any) -> Int32s:
    numbers = np.full(len(column), -1, np.int32)
    numbers[_column(column.is_valid())] = names.add(pack_column(column.drop_null()))
    return numbers


def _column(column: Any) -> npt.NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)


_compiled_for: set[int] = set()


def _compile(padded: int, catalogue: Catalogue) -> None:
    """Run once all that is compiled for vectors of `padded` dimensions: a worker must not stop for it at an event."""
    if padded in _compiled_for:
        return
    _compiled_for.add(padded)
    scratch = Snapshot(catalogue, padded)
    for at_ms in (1, 2):
        video = Annotation(
            schema_version=1, video_id="video", status="final", received_at_ms=at_ms, annotated_at_ms=at_ms,
            creator_id="creator", language="en", embedding=np.ones(padded, "<f2").tobytes(),
        )  # fmt: skip
        scratch.apply([video])
    lanes = [Lane(1), Lane(1, newest=True), *(Lane(1, attribute) for attribute in catalogue.ids)]
    lanes.append(Lane(1, among=scratch.rows(["video"])))
    vector = np.ones(padded, np.float32)
    for oldest_ms in (0, 3):
        list(scratch.search([Request(vector, lanes, scratch.rows(["video"]), ("en",), user="user")], oldest_ms))
    scratch.views(["video"])
    scratch.video_ids([0])
    scratch.describe(scratch.uploaded_since(0))
