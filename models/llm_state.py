"""What must survive kill -9: the LLM's answers, and the money spent on them.

SQLite in WAL mode: an answer and its price are one transaction, sums are queries, and any number of workers of this
machine share the file. (LMDB is faster at what costs microseconds beside a call of a second, and is one more
dependency.)
"""

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

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
CREATE TABLE IF NOT EXISTS reservations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, until REAL NOT NULL, most REAL NOT NULL,
    likely REAL NOT NULL, charged INTEGER NOT NULL DEFAULT 0
);
"""
_HOUR_S = 3_600
KEPT_S = 180 * 24 * _HOUR_S
"""How long an answer is known."""

REQUEST_TERM_S = 900.0
"""A request of the stream has ended by then, its retries are requests of their own; else its process is gone."""

# A reservation that was charged unsettled is remembered for so long: its bill may still come.
_REMEMBERED_S = 30 * 24 * _HOUR_S

Merge = Callable[[bytes, bytes], bytes]
T = TypeVar("T")


@dataclass(frozen=True)
class Spending:
    """US dollars of the current hour and day (UTC): charged, and reserved by requests under way."""

    hour: float
    day: float
    reserved: float


@dataclass(frozen=True)
class Limits:
    """US dollars per day and per hour (UTC); infinity for no limit."""

    usd_per_day: float = math.inf
    usd_per_hour: float = math.inf

    def left(self, spending: Spending) -> float:
        """Return what hour and day both still have; reservations don't count."""
        return min(self.usd_per_hour - spending.hour, self.usd_per_day - spending.day)


class LlmMemory(Protocol):
    """Answers and money, durable, and shared by all workers that open the same one."""

    async def look_up(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the answers that are known."""
        ...

    async def reserve(
        self, most: float, likely: float, limits: Limits, term_s: float = REQUEST_TERM_S
    ) -> int | Spending:
        """Reserve `most` dollars if the limits have them beside all other reservations; else return the spending.

        What is not settled within `term_s` seconds is charged with `likely` until it is.
        """
        ...

    async def settle(self, reservation: int, usd: float, usage: Usage, answers: Mapping[bytes, bytes]) -> Spending:
        """Charge a request and keep its answers, both or neither; a second time only the answers are kept."""
        ...

    async def keep(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers that cost nothing more."""
        ...

    async def release(self, reservation: int) -> None:
        """Give back what was reserved for a request that was never made."""
        ...

    async def spending(self) -> Spending:
        """Return what was spent so far."""
        ...

    async def charged(self) -> tuple[float, int]:
        """Return the dollars and the requests of all time; reservations don't count."""
        ...

    async def close(self) -> None:
        """Finish what was begun and close the connection."""
        ...


class LlmState:
    """The file `llm.sqlite` in `folder`, used from a thread of its own; see LlmMemory."""

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

    async def reserve(
        self, most: float, likely: float, limits: Limits, term_s: float = REQUEST_TERM_S
    ) -> int | Spending:
        """Reserve; see LlmMemory."""
        return await self._run(lambda: self._reserve(most, likely, limits, term_s))

    async def settle(self, reservation: int, usd: float, usage: Usage, answers: Mapping[bytes, bytes]) -> Spending:
        """Charge and keep; see LlmMemory."""
        return await self._run(lambda: self._settle(reservation, usd, usage, answers))

    async def keep(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers."""
        await self._run(lambda: self._keep(answers))

    async def release(self, reservation: int) -> None:
        """Give a reservation back."""
        await self._run(lambda: self._release(reservation))

    async def spending(self) -> Spending:
        """Return what was spent so far."""
        return await self._run(self._spending)

    async def charged(self) -> tuple[float, int]:
        """Return the dollars and the requests of all time."""
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
            database.execute("DELETE FROM answers WHERE at < ?", (now - KEPT_S,))
            database.execute("DELETE FROM reservations WHERE charged AND until < ?", (now - _REMEMBERED_S,))
            overdue = database.execute(
                "SELECT id, at, likely FROM reservations WHERE NOT charged AND until < ?", (now,)
            )
            for reservation, at, likely in overdue.fetchall():
                database.execute("UPDATE reservations SET charged = 1 WHERE id = ?", (reservation,))
                _charge(database, at, likely, NOTHING, requests=1)
        return database

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        select = "SELECT answer FROM answers WHERE key = ?"
        rows = ((key, self._database.execute(select, (key,)).fetchone()) for key in keys)
        return {key: row[0] for key, row in rows if row is not None}

    def _reserve(self, most: float, likely: float, limits: Limits, term_s: float) -> int | Spending:
        with _transaction(self._database):
            spending = self._spending()
            if limits.left(spending) < spending.reserved + most:
                return spending
            now = self._clock()
            insert = "INSERT INTO reservations (at, until, most, likely) VALUES (?, ?, ?, ?)"
            return self._database.execute(insert, (now, now + term_s, most, likely)).lastrowid or 0

    def _settle(self, reservation: int, usd: float, usage: Usage, answers: Mapping[bytes, bytes]) -> Spending:
        with _transaction(self._database):
            self._insert(answers)
            self._end(reservation, usd, usage, requests=1)
            return self._spending()

    def _end(self, reservation: int, usd: float, usage: Usage, *, requests: int) -> None:
        select = "SELECT at, likely, charged FROM reservations WHERE id = ?"
        found = self._database.execute(select, (reservation,)).fetchone()
        if found is None:
            return
        at, likely, overdue = found
        self._database.execute("DELETE FROM reservations WHERE id = ?", (reservation,))
        if overdue:  # it was charged with what was likely; now the true bill is there
            _charge(self._database, at, usd - likely, usage, requests=requests - 1)
        elif requests:
            _charge(self._database, self._clock(), usd, usage, requests=requests)

    def _keep(self, answers: Mapping[bytes, bytes]) -> None:
        with _transaction(self._database):
            self._insert(answers)

    def _insert(self, answers: Mapping[bytes, bytes]) -> None:
        for key, answer in answers.items():
            known = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            joined = self._merge(known[0], answer) if known else answer
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, int(self._clock()), joined))

    def _release(self, reservation: int) -> None:
        with _transaction(self._database):
            self._end(reservation, 0.0, NOTHING, requests=0)

    def _spending(self) -> Spending:
        now = self._clock()
        hour = int(now) // _HOUR_S
        day = hour - hour % 24
        charged = self._database.execute(
            "SELECT total(usd) FILTER (WHERE hour = ?), total(usd) FROM spent WHERE hour BETWEEN ? AND ?",
            (hour, day, hour),
        ).fetchone()
        (reserved,) = self._database.execute(
            "SELECT total(CASE WHEN until < ? THEN likely ELSE most END) FROM reservations WHERE NOT charged", (now,)
        ).fetchone()
        return Spending(charged[0], charged[1], reserved)

    def _charged(self) -> tuple[float, int]:
        usd, requests = self._database.execute("SELECT total(usd), total(requests) FROM spent").fetchone()
        return usd, int(requests)


def _charge(database: sqlite3.Connection, at: float, usd: float, usage: Usage, *, requests: int) -> None:
    database.execute(
        "INSERT INTO spent VALUES (?, ?, ?, ?, ?) ON CONFLICT (hour) DO UPDATE SET usd = usd + excluded.usd,"
        " requests = requests + excluded.requests, input_tokens = input_tokens + excluded.input_tokens,"
        " output_tokens = output_tokens + excluded.output_tokens",
        (int(at) // _HOUR_S, usd, requests, usage.input_tokens, usage.output_tokens),
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
