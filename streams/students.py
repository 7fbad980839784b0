"""The student that a running worker asks, and how it follows the registry without a stop."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from models.registry import Registry, fingerprint
from models.student import Scores, Student
from models.successor import check_space, warm_up
from monitoring import metrics
from streams.decisions import note_student
from streams.shadow import Shadow

log = logging.getLogger(__name__)

Slot = Literal["serving", "shadow"]
Load = Callable[[Path], Student]
"""Verifies and starts the bundle in a folder, blocking; raises BundleError."""


class LiveStudent:
    """One student now, perhaps another one later; a stage takes `current` once per run and asks nobody else.

    So a run is scored, banded and signed by one version. Call `score` on what `current` returned before anything is
    awaited: from then on the student is not closed before it has answered.
    """

    def __init__(self, student: Student) -> None:
        """Take over `student`."""
        self._student = student
        self._shadow: Shadow | None = None
        metrics.STUDENT_VERSION.labels("serving").set(student.version.version)
        note_student(student)

    @property
    def current(self) -> Student:
        """Who serves now."""
        return self._student

    @property
    def shadow(self) -> int | None:
        """The version that is compared with it."""
        return self._shadow.version.version if self._shadow else None

    def observe(self, texts: Sequence[str], student: Student, scores: Scores) -> None:
        """Take note of what `student` said; never waits."""
        if self._shadow is not None:
            self._shadow.offer(texts, student, scores.probability)

    async def swap(self, student: Student) -> None:
        """Let `student` serve from the next run on; close the other one when it has answered."""
        old, self._student = self._student, student
        metrics.STUDENT_VERSION.labels("serving").set(student.version.version)
        note_student(student)
        await asyncio.to_thread(old.close)

    async def compare(self, shadow: Shadow | None) -> None:
        """Compare with another shadow, or with none; takes it over."""
        old, self._shadow = self._shadow, shadow
        metrics.STUDENT_VERSION.labels("shadow").set(shadow.version.version if shadow else 0)
        if old is not None:
            await old.close()

    async def close(self) -> None:
        """Close both."""
        await self.compare(None)
        await asyncio.to_thread(self._student.close)


class RegistryFollower:
    """Keeps a LiveStudent at what the registry's CURRENT and SHADOW name.

    A candidate is loaded off the event loop, verified (checksums, golden outputs, attributes, embedding space), warmed
    up, and only then swapped in. One that fails is refused, with a log line and a metric, until CURRENT or its files
    change; who serves goes on meanwhile. Going back is the same path in the other direction.
    """

    def __init__(
        self, live: LiveStudent, registry: Registry, load: Load, *, shadow_share: float, poll_s: float = 1.0
    ) -> None:
        self._live = live
        self._registry = registry
        self._load = load
        self._share = shadow_share
        self._poll_s = poll_s
        self._refused: dict[Slot, object] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start following on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Stop following; the LiveStudent stays as it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def poll(self) -> None:
        """Look once at CURRENT and SHADOW and do what they say."""
        serving = self._live.current.version.version
        candidate = await self._candidate("serving", self._registry.current, serving)
        if candidate is not None:
            await self._live.swap(candidate)
            log.info("student %s: %d serves now, before %d", candidate.version.name, candidate.version.version, serving)
        candidate = await self._candidate("shadow", self._wanted_shadow, self._live.shadow)
        if candidate is not None:
            await self._live.compare(Shadow(candidate, self._share))
            log.info("student %s: %d is compared", candidate.version.name, candidate.version.version)

    async def _follow(self) -> None:
        while True:
            try:
                await self.poll()
            except Exception:  # who serves goes on, whatever happens here
                log.exception("following %s failed; tried again", self._registry.root)
            await asyncio.sleep(self._poll_s)

    def _wanted_shadow(self) -> int | None:
        return self._registry.shadow() if self._share else None

    async def _candidate(self, slot: Slot, wanted: Callable[[], int | None], has: int | None) -> Student | None:
        """Return the student that a slot shall have; None if it has it already, or must not have it."""
        mark: object = None
        try:
            version = await asyncio.to_thread(wanted)
            if version is None or version == has:
                self._note(slot, None)
                if version is None and has is not None:
                    await self._live.compare(None)
                return None
            mark = version, await asyncio.to_thread(fingerprint, self._registry.path(version))
            if self._refused.get(slot) == mark:
                return None
            student = await self._loaded(slot, version)
        except Exception as error:  # tokenizers and ONNX Runtime raise classes of their own for a bad file
            if mark is None:
                mark = str(error)  # CURRENT itself is bad
            if self._refused.get(slot) != mark:
                self._note(slot, mark)
                metrics.STUDENT_LOADS.labels(slot, "refused").inc()
                log.error("%s student refused, %s goes on: %s", slot, has or "nobody", error)
            return None
        self._note(slot, None)
        metrics.STUDENT_LOADS.labels(slot, "loaded").inc()
        return student

    async def _loaded(self, slot: Slot, version: int) -> Student:
        manifest = await asyncio.to_thread(self._registry.manifest, version)
        student = await asyncio.to_thread(self._load, self._registry.path(version))
        try:
            await warm_up(student)
            if slot == "serving":
                await check_space(student, self._live.current, manifest)
        except BaseException:
            await asyncio.to_thread(student.close)
            raise
        return student

    def _note(self, slot: Slot, refused: object) -> None:
        self._refused[slot] = refused
        metrics.STUDENT_REFUSED.labels(slot).set(0 if refused is None else 1)
