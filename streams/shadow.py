"""A candidate student beside the one that serves: it scores a share of the traffic, and only the difference counts."""

import asyncio
import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.student import Student
from monitoring import metrics

log = logging.getLogger(__name__)

_WAITING = 512
"""Texts that may wait for the candidate; beyond, they are dropped."""


class Shadow:
    """Compares `candidate` with the student that serves on a random `share` of the videos; takes it over.

    `offer` only draws and hands over: the candidate has a thread of its own, nobody waits for it, and what it can't
    keep up with is dropped and counted. Both students score the attributes of one catalogue.
    """

    def __init__(self, candidate: Student, share: float) -> None:
        self.version = candidate.version
        self._candidate = candidate
        self._share = share
        self._chance = np.random.default_rng()
        self._waiting = 0
        self._failed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, texts: Sequence[str], serving: Student, probability: NDArray[np.float32]) -> None:
        """Compare some of `texts` [n], which `serving` gave `probability` [n, A]."""
        drawn = np.flatnonzero(self._chance.random(len(texts)) < self._share)
        room = _WAITING - self._waiting
        if drawn.size > room:
            metrics.SHADOW_VIDEOS.labels("dropped").inc(int(drawn.size) - room)
            drawn = drawn[:room]
        if drawn.size:
            self._waiting += drawn.size
            task = asyncio.get_running_loop().create_task(
                self._compare([texts[i] for i in drawn.tolist()], serving, probability[drawn])
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish what was taken and end the candidate's thread."""
        await asyncio.gather(*self._tasks)
        await asyncio.to_thread(self._candidate.close)

    async def _compare(self, texts: list[str], serving: Student, probability: NDArray[np.float32]) -> None:
        try:
            scores = await self._candidate.score(texts)
        except Exception:  # whatever is wrong with a candidate must stay with it
            if not self._failed:
                log.exception("shadow student %d failed; not said again", self.version.version)
            self._failed = True
            metrics.SHADOW_VIDEOS.labels("failed").inc(len(texts))
            return
        finally:
            self._waiting -= len(texts)
        ours, theirs = decisions(serving, probability), decisions(self._candidate, scores.probability)
        opposite, other = (ours * theirs == -1).sum(axis=0), (ours != theirs).sum(axis=0)
        difference = np.abs(scores.probability - probability).sum(axis=0)
        metrics.SHADOW_VIDEOS.labels("compared").inc(len(texts))
        for a, name in enumerate(serving.ids):
            metrics.SHADOW_DISAGREEMENTS.labels(name, "label").inc(int(opposite[a]))
            metrics.SHADOW_DISAGREEMENTS.labels(name, "band").inc(int(other[a] - opposite[a]))
            metrics.SHADOW_DIFFERENCE.labels(name).inc(float(difference[a]))


def decisions(student: Student, probability: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return 1 (accept), -1 (reject) or 0 (uncertain) for probabilities [n, A]."""
    lo, hi = np.array([student.bands[name] for name in student.ids]).T
    return (probability >= hi).astype(np.int8) - (probability < lo).astype(np.int8)
