"""What must survive kill -9: the LLM's answers, and the money spent on them.

SQLite in WAL mode: an answer and its price are one transaction, sums are queries, and any number of workers of this
machine share the file. (LMDB is faster at what costs microseconds beside a call of a second, and is one more
dependency.)
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from models.llm_outcome import NOTHING, Usage
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, at INTEGER NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    hour INTEGER PRIMARY KEY, usd REAL NOT NULL, requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS reserved (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, most REAL NOT NULL, likely REAL NOT NULL
);
"""
_HOUR_S = 3_600
_KEPT_S = 180 * 24 * _HOUR_S
# A reservation older than this was left behind by a process that is gone, and is charged with what was likely.
_ABANDONED_S = 900.0

Merge = Callable[[bytes, bytes], bytes]
T = TypeVar("T")


@dataclass(frozen=True)
class Spending:
    """US dollars of the current hour and day (UTC): charged, and reserved by requests under way."""

    hour: float
    day: float
    reserved: float


class LlmState:
    """The file `llm.sqlite` in `folder`, used from a thread of its own."""

    def __init__(self, folder: Path, merge: Merge, clock: Callable[[], float] = time.time) -> None:
        """`merge` joins a kept answer with a new one under the same key; `clock` gives epoch seconds.

        Raises:
            ConfigurationError: the file can't be opened or is none of ours.

        """
        self._merge = merge
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llm-state")
        try:
            self._database = self._thread.submit(self._open, folder).result()
        except (OSError, sqlite3.Error) as error:
            self._thread.shutdown()
            raise ConfigurationError(
                f"the LLM's answers can't be kept in {folder}: {error}; see VIBESTREAM_LLM_STATE"
            ) from error

    async def look_up(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the answers that are known."""
        return await self._run(lambda: self._look_up(keys))

    async def reserve(self, most: float, likely: float, allowed: Callable[[Spending], bool]) -> int | Spending:
        """Reserve `most` dollars if `allowed` says so of the spending so far; return the reservation, or the spending.

        A reservation that is never settled is charged with `likely` in the end.
        """
        return await self._run(lambda: self._reserve(most, likely, allowed))

    async def settle(self, reservation: int, usd: float, usage: Usage, answers: Mapping[bytes, bytes]) -> Spending:
        """Charge a request and keep its answers, both or neither."""
        return await self._run(lambda: self._settle(reservation, usd, usage, answers))

    async def keep(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers that cost nothing more."""
        await self._run(lambda: self._keep(answers))

    async def release(self, reservation: int) -> None:
        """Give back what was reserved for a request that was never made."""
        await self._run(lambda: self._release(reservation))

    async def spending(self) -> Spending:
        """Return what was spent so far."""
        return await self._run(self._spending)

    async def charged(self) -> tuple[float, int]:
        """Return the dollars and the requests of all time; reservations don't count."""
        return await self._run(self._charged)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await self._run(self._database.close)
        self._thread.shutdown()

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _open(self, folder: Path) -> sqlite3.Connection:
        folder.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(folder / "llm.sqlite", timeout=30.0, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        # A power cut may cost the last moments, which are asked again; a killed process loses nothing.
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_SCHEMA)
        now = self._clock()
        with _transaction(database):
            database.execute("DELETE FROM answers WHERE at < ?", (now - _KEPT_S,))
            abandoned = database.execute("SELECT id, at, likely FROM reserved WHERE at < ?", (now - _ABANDONED_S,))
            for reservation, at, likely in abandoned.fetchall():
                database.execute("DELETE FROM reserved WHERE id = ?", (reservation,))
                _charge(database, at, likely, NOTHING)
        return database

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        select = "SELECT answer FROM answers WHERE key = ?"
        rows = ((key, self._database.execute(select, (key,)).fetchone()) for key in keys)
        return {key: row[0] for key, row in rows if row is not None}

    def _reserve(self, most: float, likely: float, allowed: Callable[[Spending], bool]) -> int | Spending:
        with _transaction(self._database):
            spending = self._spending()
            if not allowed(spending):
                return spending
            insert = "INSERT INTO reserved (at, most, likely) VALUES (?, ?, ?)"
            return self._database.execute(insert, (self._clock(), most, likely)).lastrowid or 0

    def _settle(self, reservation: int, usd: float, usage: Usage, answers: Mapping[bytes, bytes]) -> Spending:
        now = self._clock()
        with _transaction(self._database):
            self._insert(answers)
            left = self._database.execute("DELETE FROM reserved WHERE id = ?", (reservation,)).rowcount
            if left:  # else it took so long that it counts as abandoned and was charged already
                _charge(self._database, now, usd, usage)
            return self._spending()

    def _keep(self, answers: Mapping[bytes, bytes]) -> None:
        with _transaction(self._database):
            self._insert(answers)

    def _insert(self, answers: Mapping[bytes, bytes]) -> None:
        for key, answer in answers.items():
            known = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            joined = self._merge(known[0], answer) if known else answer
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, int(self._clock()), joined))

    def _release(self, reservation: int) -> None:
        self._database.execute("DELETE FROM reserved WHERE id = ?", (reservation,))

    def _spending(self) -> Spending:
        now = self._clock()
        hour = int(now) // _HOUR_S
        day = hour - hour % 24
        charged = self._database.execute(
            "SELECT total(usd) FILTER (WHERE hour = ?), total(usd) FROM spent WHERE hour BETWEEN ? AND ?",
            (hour, day, hour),
        ).fetchone()
        (reserved,) = self._database.execute(
            "SELECT total(CASE WHEN at < ? THEN likely ELSE most END) FROM reserved", (now - _ABANDONED_S,)
        ).fetchone()
        return Spending(charged[0], charged[1], reserved)

    def _charged(self) -> tuple[float, int]:
        usd, requests = self._database.execute("SELECT total(usd), total(requests) FROM spent").fetchone()
        return usd, int(requests)


def _charge(database: sqlite3.Connection, at: float, usd: float, usage: Usage) -> None:
    database.execute(
        "INSERT INTO spent VALUES (?, ?, 1, ?, ?) ON CONFLICT (hour) DO UPDATE SET usd = usd + excluded.usd,"
        " requests = requests + 1, input_tokens = input_tokens + excluded.input_tokens,"
        " output_tokens = output_tokens + excluded.output_tokens",
        (int(at) // _HOUR_S, usd, usage.input_tokens, usage.output_tokens),
    )


@contextmanager
def _transaction(database: sqlite3.Connection) -> "Generator[None]":
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
