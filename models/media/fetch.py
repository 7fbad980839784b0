"""One way to media, wherever it lies: checked by the rules, bounded in bytes and time, and gone afterwards."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TypeVar
from uuid import uuid4

from models.media.http import HttpSource, PassingFault, too_large
from models.media.objects import ObjectSource, ObjectStores
from models.media.rules import MediaRules, Target
from monitoring import metrics
from schemas.errors import ConfigurationError, MediaProblem

T = TypeVar("T")

_TRIES = 3
_FIRST_PAUSE_S = 0.3


@dataclass(frozen=True)
class FetchLimits:
    """What one file may take: bytes, seconds for all tries and hops together; and files at once."""

    max_bytes: int = 200 * 2**20
    seconds: float = 20.0
    at_once: int = 8


class MediaFetcher:
    """Brings media to a local path. Files that lie here stay where they are; others live as long as they are used."""

    def __init__(
        self,
        rules: MediaRules,
        limits: FetchLimits | None = None,
        stores: ObjectStores | None = None,
        scratch: Path | None = None,
    ) -> None:
        """`scratch`: the folder for copies; None: the system's for temporary files.

        Raises:
            ConfigurationError: it can't be written to.

        """
        self.rules = rules
        self._limits = limits or FetchLimits()
        try:
            self._folder = TemporaryDirectory(prefix="vibestream-media-", dir=scratch, ignore_cleanup_errors=True)
        except OSError as error:
            raise ConfigurationError(f"VIBESTREAM_MEDIA_SCRATCH={scratch}: {error.strerror}") from error
        self._http = HttpSource(rules, self._limits.at_once)
        self._objects = ObjectSource(stores or ObjectStores(timeout_s=self._limits.seconds))
        self._places = asyncio.Semaphore(self._limits.at_once)
        # Calls that block may outlive their deadline; here they can only be in each other's way.
        self._threads = ThreadPoolExecutor(self._limits.at_once, thread_name_prefix="media")

    @asynccontextmanager
    async def fetch(self, uri: str) -> AsyncGenerator[Path]:
        """Give the path of the file that `uri` names, with no link in it.

        Raises:
            MediaProblem: it is refused, can't be had, or is too large.

        """
        async with self._places:
            started = time.perf_counter()
            copy = Path(self._folder.name) / uuid4().hex
            try:
                try:
                    async with asyncio.timeout(self._limits.seconds):
                        path = await self._bring(uri, copy)
                except TimeoutError:
                    raise MediaProblem("unavailable", f"not here within {self._limits.seconds:g} s") from None
                finally:
                    metrics.MEDIA_SECONDS.labels("fetch").observe(time.perf_counter() - started)
                yield path
            finally:
                await asyncio.to_thread(copy.unlink, missing_ok=True)

    async def close(self) -> None:
        """Close connections and remove what was copied; nothing may be under way."""
        await self._http.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._folder.cleanup)

    async def _bring(self, uri: str, copy: Path) -> Path:
        target = await self._in_thread(lambda: self.rules.check(uri))
        if target.scheme == "file":
            path = Path(target.path)
            size = (await self._in_thread(path.stat)).st_size
            if size > self._limits.max_bytes:
                raise too_large(size, self._limits.max_bytes)
            return path
        pause = _FIRST_PAUSE_S
        for left in reversed(range(_TRIES)):
            try:
                await self._copy(target, copy)
                break
            except PassingFault as error:
                if not left:
                    raise MediaProblem("unavailable", f"{error}, {_TRIES} times") from error
            except OSError as error:
                raise MediaProblem("unavailable", f"no copy can be kept here: {error.strerror}") from error
            await asyncio.sleep(pause)
            pause *= 2
        return copy.resolve()

    async def _copy(self, target: Target, copy: Path) -> None:
        if target.scheme in ("http", "https"):
            await self._http.fetch(target, copy, self._limits.max_bytes)
            return
        given_up = Event()
        try:
            await self._in_thread(lambda: self._objects.fetch(target, copy, self._limits.max_bytes, given_up))
        finally:
            given_up.set()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
