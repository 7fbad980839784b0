"""Retrieval from the attribute tables: for catalogues that are larger than a worker's memory."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from random import Random

import numpy as np

from schemas.annotation import Annotation
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from streams.attribute_store import AttributeStore
from streams.clock import now_ms
from streams.held import Held
from streams.retriever import Described, Found, Int32s, Lane, Request
from streams.table_search import Proposed, TableSearch, TableSettings, has, not_before, servable
from streams.videos import VideoView

_HOUR_MS = 3_600_000
_WIDER = 8
_SPANS = 64  # of the time that is new, one is drawn from


class TableRetriever:
    """The videos of a store. Synchronous, and used from one thread; what reads the store raises StoreUnavailable.

    The tables propose videos, and what was met of them is held in memory, where the rules of a snapshot decide what may
    be served. So a take-down that `apply` is told of counts at once, whatever the tables still say. A row's number
    stays the same until `shed`.
    """

    def __init__(self, store: AttributeStore, settings: TableSettings | None = None) -> None:
        self._settings = settings or TableSettings()
        self._store = store
        self._held = Held(store.catalogue, store.dim)
        self._table = TableSearch(store, self._settings, self._held.columns)
        self._late: dict[str, Annotation] = {}
        self._fresh_until = self._counted_until = float("-inf")
        self._newest: dict[tuple[str, ...] | None, tuple[int, Int32s]] = {}
        self._sampled: Int32s | None = None
        self._counts: dict[tuple[str, ...] | None, dict[str, int]] = {}
        self._random = Random(0)

    def __len__(self) -> int:
        """Videos that are held."""
        return len(self._held)

    @property
    def catalogue(self) -> Catalogue:
        """The attributes of the videos."""
        return self._store.catalogue

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self._store.dim

    def video_ids(self, rows: Sequence[int]) -> list[str]:
        """Return the videos of rows."""
        return self._held.video_ids(rows)

    def find(self, video_ids: Collection[str]) -> Int32s:
        """Return the row of each video; the table is not asked for those that were not met, they get one."""
        return self._held.name(tuple(video_ids))

    def describe(self, rows: Int32s) -> Described:
        """Return what is known of rows."""
        return self._held.describe(rows)

    def uploaded_since(self, ms: int) -> Int32s:
        """Return some of the rows that were uploaded then or later, oldest first: the last, and a changing sample."""
        self._refresh()
        if self._sampled is None:
            self._sampled = self._drawn(ms)
        rows = np.unique(np.concatenate([self._newest_rows(None, self._settings.newest), self._sampled]))
        times = self._held.uploaded_at(rows)
        order = np.lexsort((rows, times))
        return rows[order][times[order] >= ms]

    def views(self, video_ids: Sequence[str]) -> list[VideoView | None]:
        """Return what is known of each video; None where it is unknown or removed."""
        unmet = sorted({video_id for video_id in video_ids if not self._held.is_known(video_id)})
        if unmet:
            self._held.load(self._table.look_up(unmet))
            self._take_late(unmet)
        return self._held.views(video_ids)

    def apply(self, annotations: Sequence[Annotation]) -> None:
        """Take over what concerns videos that were met, or keeps a video from being served; remember the rest a while.

        What was met just before the table had it would otherwise stay as it was.
        """
        rows = self._held.find([annotation.video_id for annotation in annotations])
        taken: list[Annotation] = []
        for annotation, row in zip(annotations, rows.tolist(), strict=True):
            if row >= 0 or annotation.status == "removed" or self._is_refused(annotation):
                taken.append(annotation)
            elif (known := self._late.pop(annotation.video_id, None)) is None or known.seq < annotation.seq:
                self._late[annotation.video_id] = annotation
            else:
                self._late[annotation.video_id] = known
        self._held.apply(taken)
        for video_id in list(islice(self._late, max(0, len(self._late) - self._settings.late))):
            del self._late[video_id]

    def shed(self, kept: Int32s) -> Int32s | None:
        """Forget rows but `kept` if there are more than are to be held; return new numbers by old row."""
        if len(self._held) <= self._settings.most_held:
            return None
        names, numbers = self._held.video_ids(kept.tolist()), np.full(len(self._held), -1, np.int32)
        self._held = Held(self.catalogue, self.dim)
        self._held.load(self._table.look_up(names))
        numbers[kept] = self._held.name(names)
        self._fresh_until = float("-inf")
        return numbers

    def search(self, requests: Sequence[Request], oldest_ms: int) -> Iterator[tuple[int, Found]]:
        """Yield what is found for each request, by its number; see Retriever.

        What keeps videos out is counted in the tables every few seconds, the seen among those that were met.

        Raises:
            ConfigurationError: a lane is of an attribute that the catalogue does not have, or a vector has another
                dimension.

        """
        self._refresh()
        lanes = [self._lanes(request, oldest_ms) for request in requests]
        narrowed = [replace(request, lanes=of) for request, of in zip(requests, lanes, strict=True)]
        for i, found in self._held.search(narrowed, oldest_ms):
            yield i, self._whole(requests[i], found, oldest_ms)

    def _whole(self, request: Request, found: Found, oldest_ms: int) -> Found:
        counts = self._removed(request.languages, oldest_ms) | {"seen": found.removed.get("seen", 0)}
        return replace(found, removed={reason: count for reason, count in counts.items() if count})

    def _lanes(self, request: Request, oldest_ms: int) -> list[Lane]:
        """Return the lanes as rows that the tables propose for each, best first."""
        if request.vector is not None and request.vector.shape != (self.dim,):
            raise ConfigurationError(f"a vector of {request.vector.shape} numbers, the table's have {self.dim}")
        wanted = [lane.attribute for lane in request.lanes if lane.attribute is not None]
        for attribute in wanted:
            if attribute not in self._held.attribute_index:
                raise ConfigurationError(
                    f"no attribute {attribute!r} in the catalogue; there are {', '.join(self.catalogue.ids)}"
                )
        languages = None if request.languages is None else tuple(sorted(request.languages))
        where = f"{servable(self.catalogue, languages)} AND {not_before(oldest_ms)}"
        seen = set(self._held.video_ids(request.seen.tolist()))
        wide, is_all = None, False
        if request.vector is not None and any(_asks(lane) for lane in request.lanes):
            most = max(self._settings.nearest, *(lane.k for lane in request.lanes if _asks(lane))) + len(seen)
            found = self._table.nearest(request.vector, where, most, wanted)
            is_all = len(found) < most
            wide = _without(found, seen)
        lanes: list[Lane] = []
        for lane in request.lanes:
            if lane.among is not None:
                lanes.append(lane)
            elif lane.newest or (lane.attribute is None and wide is None):
                lanes.append(Lane(lane.k, among=self._newest_rows(languages, lane.k + len(seen))))
            elif lane.attribute is None and wide is not None:
                lanes.append(Lane(lane.k, among=self._meet(wide.take(slice(lane.k)))))
            elif lane.attribute is not None:
                lanes.append(Lane(lane.k, among=self._having(request, lane, wanted, wide, is_all, where, seen)))
        return lanes

    def _having(
        self,
        request: Request,
        lane: Lane,
        wanted: Sequence[str],
        wide: Proposed | None,
        is_all: bool,
        where: str,
        seen: set[str],
    ) -> Int32s:
        attribute, enough = str(lane.attribute), 2 * lane.k  # the student's p then changes the order
        condition = f"{where} AND {has(attribute)}"
        if request.vector is None or wide is None:
            found = _without(self._table.probable(condition, attribute, enough + len(seen)), seen)
        else:
            found = wide.take(np.flatnonzero(wide.has[wanted.index(attribute)]))
            if len(found) < enough and not is_all:
                found = _without(self._table.nearest(request.vector, condition, enough + len(seen), ()), seen)
        rows = self._meet(found.take(slice(enough)))
        known = self.describe(rows)
        index = self._held.attribute_index[attribute]
        scores = request.probability_weight * known.log_p[:, index]
        if request.vector is not None:
            scores = scores + known.vectors @ request.vector
        order = np.argsort(-scores, kind="stable")
        return rows[order][known.certified[order, index]]  # what an annotation has changed since counts

    def _meet(self, proposed: Proposed) -> Int32s:
        """Hold videos as the tables have them now; return their rows."""
        names = proposed.video_ids.tolist()
        newer = proposed.seqs > self._held.seqs(self._held.find(names))
        if newer.any():
            met = proposed.take(np.flatnonzero(newer))
            self._held.load(self._table.load(met))
            self._take_late(met.video_ids.tolist())
        return self._held.rows(names)

    def _take_late(self, video_ids: Sequence[str]) -> None:
        self._held.apply([late for video_id in video_ids if (late := self._late.pop(video_id, None)) is not None])

    def _is_refused(self, annotation: Annotation) -> bool:
        scores = (annotation.attributes.get(policy) for policy in self.catalogue.policy_ids)
        return any(score is not None and score.label is True for score in scores)

    def _newest_rows(self, languages: tuple[str, ...] | None, count: int) -> Int32s:
        """Return at least `count` of the newest rows that may be served, newest first, if there are so many."""
        held = self._newest.get(languages)
        if held is not None and held[0] >= count:
            return held[1]
        count = max(count, self._settings.newest)
        where, span = servable(self.catalogue, languages), _HOUR_MS
        found = self._table.newest(f"{where} AND {not_before(now_ms() - span)}", count)
        while len(found) < count and span < now_ms():
            span *= _WIDER
            found = self._table.newest(f"{where} AND {not_before(max(0, now_ms() - span))}", count)
        rows = self._meet(found)
        rows = rows[np.argsort(-self._held.uploaded_at(rows), kind="stable")]
        self._newest[languages] = (count, rows)
        return rows

    def _drawn(self, since_ms: int) -> Int32s:
        """Return some of the videos of a random time since then that may be served."""
        span = max(1, (now_ms() - since_ms) // _SPANS)
        start = since_ms + int(self._random.random() * max(0, now_ms() - since_ms - span))
        where = f"{servable(self.catalogue, None)} AND uploaded_at_ms >= {start} AND uploaded_at_ms < {start + span}"
        return self._meet(self._table.some(where, self._settings.sample))

    def _refresh(self) -> None:
        """Forget what was new, and what was counted, a while ago."""
        now = time.monotonic()
        if now >= self._fresh_until:
            self._fresh_until = now + self._settings.refresh_s
            self._newest.clear()
            self._sampled = None
        if now >= self._counted_until:
            self._counted_until = now + self._settings.count_s
            self._counts.clear()

    def _removed(self, languages: Collection[str] | None, oldest_ms: int) -> dict[str, int]:
        key = None if languages is None else tuple(sorted(languages))
        if key not in self._counts:
            self._counts[key] = self._table.removed(self.catalogue, key, oldest_ms)
        return self._counts[key]


def _asks(lane: Lane) -> bool:
    return lane.among is None and not lane.newest


def _without(found: Proposed, seen: set[str]) -> Proposed:
    if not seen:
        return found
    return found.take(np.array([video_id not in seen for video_id in found.video_ids.tolist()], np.bool_))
