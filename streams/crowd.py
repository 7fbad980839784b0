"""What the watches of all users say of videos: how popular they are, and which are watched by the same users.

It is the slice of one worker, of the partitions that it reads, and no part of any user's state: a worker that starts
anew learns it again, and until then its lists may differ. Memory is bounded, and the past fades.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.cowatch import add_lifts, add_pairs, keep_neighbours, look_up, take_up
from streams.names import grown
from streams.policy import CrowdSettings
from streams.retriever import Bools, Float32s, Int32s, distinct
from streams.sorting import highest

_STEP_MS = 3_600_000  # the past fades by the hour
_FADED = 0.05  # a neighbour of fewer co-watches is forgotten


class Watched(NamedTuple):
    """A watch: its video's row and which attributes it has, how satisfied it was, and when.

    `before` are the rows that its user watched before, latest last.
    """

    row: int
    attributes: Bools
    satisfied: float
    at_ms: int
    before: Int32s


class Ranking(NamedTuple):
    """What a crowd says to a user, until it learns more: of videos by the crowd's own numbers; see `Crowd.qualities`.

    `best` are rows of the highest quality first.
    """

    slots: Int32s
    popularity: Float32s
    lift: Float32s
    best: Int32s


class Crowd:
    """Decayed sums over watches, of the videos watched most. Not thread-safe: use it from one thread.

    Rows are numbers that a retriever gives videos and keeps.
    """

    def __init__(self, settings: CrowdSettings) -> None:
        """The first of a process compiles its code."""
        self._settings = settings
        self._at_ms = 0
        self._count = 0
        self._slots = np.zeros(0, np.int32)  # by row, one higher
        # By slot, with room for all at once: what is not written yet takes no memory, and nothing stops to grow.
        most = settings.most_videos
        self._rows = np.zeros(most, np.int32)
        self._watches = np.zeros(most, np.float32)
        self._satisfied = np.zeros(most, np.float32)
        self._trend = np.zeros(most, np.float32)  # satisfaction that fades sooner
        self._neighbours = np.zeros((most, settings.neighbours), np.int32)
        self._co_watches = np.zeros((most, settings.neighbours), np.float32)
        self._lifts = np.zeros(most, np.float32)  # all 0 between two calls, and so are
        self._places = np.zeros(most, np.int32)
        self._total = 0.0
        self._by_attribute = np.zeros((2, 0))  # watches and satisfaction
        self._popular = np.zeros(0, np.int32)
        self._total_then = -1.0
        self._compile()

    def __len__(self) -> int:
        """Videos that are followed."""
        return self._count

    @property
    def rows(self) -> Int32s:
        """The rows that are followed."""
        return self._rows[: self._count]

    @property
    def watches(self) -> float:
        """Watches learned, of which the old count less."""
        return self._total

    @property
    def history(self) -> int:
        """How many watches of a user count."""
        return self._settings.history

    @property
    def rate(self) -> float:
        """The mean satisfaction of watches, 0.5 before the first."""
        return (float(self._satisfied[: self._count].sum()) + 0.5) / (self._total + 1.0)

    def learn(self, watches: Sequence[Watched]) -> None:
        """Take in watches. What was watched by its user before counts as popular, but makes no pairs again."""
        for watch in watches:
            self._fade(watch.at_ms)
            before = watch.before[-self._settings.history :]
            slot = self._follow(watch.row)
            self._watches[slot] += 1.0
            self._satisfied[slot] += watch.satisfied
            self._trend[slot] += watch.satisfied
            self._total += 1.0
            self._by_attribute = grown(self._by_attribute, len(watch.attributes), axis=1)
            sums = self._by_attribute[:, : len(watch.attributes)]
            sums[0] += watch.attributes
            sums[1] += watch.satisfied * watch.attributes
            if watch.row not in watch.before:
                add_pairs(self._neighbours, self._co_watches, slot, self._known(before))

    def attributes(self, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the watches of videos with each attribute, and the satisfaction in them."""
        watches, satisfied = grown(self._by_attribute, count, axis=1)[:, :count]
        return watches, satisfied

    def impressions(self, rows: Int32s) -> tuple[Float32s, Float32s]:
        """Return the watches of rows, and the satisfaction in them."""
        if not self._count:
            return np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        slots = np.where(rows < len(self._slots), self._slots[np.minimum(rows, len(self._slots) - 1)], 0) - 1
        known = slots >= 0
        return np.where(known, self._watches[slots], 0), np.where(known, self._satisfied[slots], 0)

    def rank(self, watched: Int32s, most: int, lift_weight: float) -> Ranking:
        """Return what the crowd says to a user who watched these rows, latest last."""
        slots = self._known(distinct(watched[-self._settings.history :]))
        touched = np.empty(len(slots) * self._neighbours.shape[1] + 1, np.int32)
        chance = self._settings.shrink / (self._total + 0.5 * self._count) if self._count else 1.0
        count = add_lifts(self._neighbours, self._co_watches, slots, self._watches, chance, self._lifts, touched)
        popular = self._most_popular(most)
        found = np.concatenate([touched[:count], popular[self._lifts[popular] == 0.0]])
        popularity, lift = np.empty(len(found), np.float32), np.empty(len(found), np.float32)
        weight = np.float32(lift_weight / max(1, len(slots)) ** self._settings.damping)
        take_up(found, self._lifts, self._trend, weight, popularity, lift)
        return Ranking(found, popularity, lift, self._rows[found[highest(popularity + lift, most)]])

    def qualities(self, ranking: Ranking, rows: Int32s) -> tuple[Float32s, Float32s]:
        """Return two parts of the quality of rows to the user of a ranking, 0 for those that are not in it.

        They are popularity, log(1 + 2 * satisfaction of late), and lift, the logarithm of how much more than others the
        users watch a video who watched what this one did.
        """
        popularity, lift = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        look_up(ranking.slots, ranking.popularity, ranking.lift, self._slots, self._places, rows, popularity, lift)
        return popularity, lift

    def renumber(self, numbers: Int32s) -> None:
        """Take over new numbers of `rows`, by old number; none of them was forgotten."""
        self._rows[: self._count] = numbers[self.rows]
        self._slots = np.zeros(int(self.rows.max(initial=-1)) + 1, np.int32)
        self._slots[self.rows] = np.arange(1, self._count + 1)

    def _compile(self) -> None:
        """Run once all that is compiled, without a trace: a worker must not stop for it at an event."""
        few = np.zeros((2, self._settings.neighbours), np.int32)
        counts, one = few.astype(np.float32), np.zeros(1, np.int32)
        add_pairs(few, counts, 0, one + 1)
        add_lifts(few, counts, one, counts[0], 1.0, counts[1].copy(), np.zeros(self._settings.neighbours, np.int32))
        keep_neighbours(few, counts, one, np.zeros(3, np.int32))
        take_up(one, counts[0].copy(), counts[0], np.float32(1.0), counts[0].copy(), counts[0].copy())
        highest(counts[0], 1)
        look_up(one, counts[0], counts[0], one, one.copy(), one, counts[0], counts[0])

    def _known(self, rows: Int32s) -> Int32s:
        slots = self._slots[rows[rows < len(self._slots)]] - 1
        return slots[slots >= 0]

    def _follow(self, row: int) -> int:
        """Return the slot of a row, which has one from now on."""
        self._slots = grown(self._slots, row + 1)
        if self._slots[row]:
            return int(self._slots[row]) - 1
        if self._count == self._settings.most_videos:
            self._evict()
        slot = self._count
        self._rows[slot] = row
        self._watches[slot] = self._satisfied[slot] = self._trend[slot] = 0.0
        self._neighbours[slot] = 0
        self._count += 1
        self._slots[row] = self._count
        return slot

    def _most_popular(self, most: int) -> Int32s:
        """Return slots; they are looked for again when a hundredth more was watched."""
        if self._total_then < 0 or self._total > 1.01 * self._total_then or self._total < self._total_then:
            trend = self._trend[: self._count]
            best = np.argpartition(-trend, most)[:most] if self._count > most else np.arange(self._count)
            self._popular, self._total_then = best.astype(np.int32), self._total
        return self._popular

    def _fade(self, at_ms: int) -> None:
        if self._at_ms == 0:
            self._at_ms = at_ms
        steps = (at_ms - self._at_ms) // _STEP_MS
        if steps < 1:
            return
        self._at_ms += steps * _STEP_MS
        factor = np.float32(np.exp(-steps * _STEP_MS / self._settings.tau_ms))
        for amounts in (self._watches, self._satisfied, self._co_watches):
            amounts[: self._count] *= factor
        self._trend[: self._count] *= np.float32(np.exp(-steps * _STEP_MS / self._settings.trend_tau_ms))
        self._total *= float(factor)
        self._by_attribute *= float(factor)
        self._neighbours[: self._count][self._co_watches[: self._count] < _FADED] = 0
        all_of_them = np.arange(self._count, dtype=np.int32)
        keep_neighbours(self._neighbours, self._co_watches, all_of_them, np.arange(self._count + 1, dtype=np.int32))

    def _evict(self) -> None:
        """Forget the half of the videos that was watched least."""
        kept = np.sort(np.argsort(-self._watches[: self._count], kind="stable")[: self._count // 2]).astype(np.int32)
        again = np.zeros(self._count + 1, np.int32)
        again[kept + 1] = np.arange(1, len(kept) + 1)
        self._slots[self._rows[: self._count]] = again[1:]
        for name in ("_rows", "_watches", "_satisfied", "_trend"):
            amounts: npt.NDArray[np.float32] = getattr(self, name)
            amounts[: len(kept)] = amounts[kept]
        keep_neighbours(self._neighbours, self._co_watches, kept, again)
        self._count = len(kept)
        self._total = float(self._watches[: self._count].sum())
        self._total_then = -1.0
