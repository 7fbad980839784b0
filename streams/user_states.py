"""The states of the users whose watch events this worker reads."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import uuid4

from schemas.errors import BrokerUnavailable, ConfigurationError, InvalidRecord
from schemas.user_state import UserState, decode_state

log = logging.getLogger(__name__)

Recover = Callable[[int], Awaitable[Iterable[tuple[bytes, bytes | None]]]]
"""Returns (key, value) of the records of a changelog partition, oldest first; taking them may block."""


class _Entry(NamedTuple):
    """A state as the changelog has it; encoded, which takes a tenth of the decoded one's memory."""

    applied: int
    value: bytes
    key: bytes


@dataclass(frozen=True)
class _Partition:
    """The states of one partition, and the name of this worker's term as its owner."""

    entries: dict[str, _Entry]
    term: str

    def key(self, user_id: str) -> bytes:
        return f"{user_id}\0{self.term}".encode()


@dataclass(frozen=True)
class _Recovery:
    """A partition's changelog as it is read; set `dropped` to end that early."""

    entries: asyncio.Task[dict[str, _Entry]]
    dropped: threading.Event


class UserStates:
    """States per partition of watch-events, recovered from the changelog partition of the same number.

    Of two states of a user the one with the higher applied offset stands, wherever it comes from. A worker that was
    stopped and lost its partition may wake and still write: so that compaction never keeps its old state in place of a
    newer one, each owner writes under keys of its own term, and deletes a user's key of the term before.
    """

    def __init__(self, recover: Recover) -> None:
        self._recover = recover
        self._partitions: dict[int, _Partition] = {}
        self._recovering: dict[int, _Recovery] = {}

    def begin(self, partitions: Iterable[int]) -> None:
        """Start to recover partitions that were just assigned; the first watch then finds them there.

        A failure is only logged: `ensure` tries again.
        """
        for partition in partitions:
            if partition not in self._partitions:
                self._recovery(partition)

    async def ensure(self, partition: int) -> None:
        """Recover a partition unless that was done since it was last forgotten.

        Raises:
            ConfigurationError: a state was written by a newer version.

        """
        while partition not in self._partitions:
            recovery = self._recovery(partition)
            await asyncio.shield(recovery.entries)
            # Its callback may be due later in this turn of the event loop, which would never come to it.
            self._recovered(partition, recovery, recovery.entries)

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop partitions; call it whenever some are revoked or newly assigned."""
        for partition in partitions:
            self._partitions.pop(partition, None)
            recovery = self._recovering.pop(partition, None)
            if recovery is not None:
                recovery.dropped.set()

    def close(self) -> None:
        """Drop everything, so that no reading outlives the worker."""
        self.forget([*self._partitions, *self._recovering])

    def _recovery(self, partition: int) -> _Recovery:
        known = self._recovering.get(partition)
        if known is not None:
            return known
        dropped = threading.Event()
        recovery = _Recovery(asyncio.create_task(self._read(partition, dropped)), dropped)
        self._recovering[partition] = recovery
        recovery.entries.add_done_callback(partial(self._recovered, partition, recovery))
        return recovery

    async def _read(self, partition: int, dropped: threading.Event) -> dict[str, _Entry]:
        started = time.monotonic()
        records = await self._recover(partition)
        entries = await asyncio.to_thread(_latest, partition, records, dropped)
        if not dropped.is_set():
            log.info("partition %d: %d user states in %.1f s", partition, len(entries), time.monotonic() - started)
        return entries

    def _recovered(self, partition: int, recovery: _Recovery, entries: asyncio.Task[dict[str, _Entry]]) -> None:
        error = None if entries.cancelled() else entries.exception()
        if self._recovering.get(partition) is not recovery:
            return  # forgotten meanwhile: what was read may lack what another owner wrote since
        del self._recovering[partition]
        if error is not None:
            log.warning("partition %d: user states were not recovered: %s", partition, error)
        elif not entries.cancelled():
            self._partitions[partition] = _Partition(entries.result(), uuid4().hex[:12])

    def get(self, partition: int, user_id: str) -> UserState | None:
        """Return the state of a user, None if there is none yet.

        Raises:
            BrokerUnavailable: the partition was forgotten meanwhile; a user without a state can't be told from one
                whose state was dropped.

        """
        entry = self._owned(partition).entries.get(user_id)
        return decode_state(entry.value) if entry else None

    def term(self, partition: int) -> str:
        """Return the name of this worker's term as a partition's owner, which ends when it is forgotten.

        Raises:
            BrokerUnavailable: it is forgotten.

        """
        return self._owned(partition).term

    def changes(self, partition: int, user_id: str, value: bytes) -> list[tuple[bytes, bytes | None]]:
        """Return the changelog records that make `value` the state of a user.

        Raises:
            BrokerUnavailable: the partition was forgotten meanwhile.

        """
        owned = self._owned(partition)
        key, before = owned.key(user_id), owned.entries.get(user_id)
        outlived: list[tuple[bytes, bytes | None]] = [(before.key, None)] if before and before.key != key else []
        return [(key, value), *outlived]

    def put(self, partition: int, user_id: str, applied: int, value: bytes) -> None:
        """Keep an encoded state, unless its partition is forgotten."""
        owned = self._partitions.get(partition)
        if owned is not None:
            _keep(owned.entries, user_id, _Entry(applied, value, owned.key(user_id)))

    def _owned(self, partition: int) -> _Partition:
        owned = self._partitions.get(partition)
        if owned is None:
            raise BrokerUnavailable(f"user states of partition {partition} were dropped: it was reassigned")
        return owned


def _latest(
    partition: int, records: Iterable[tuple[bytes, bytes | None]], dropped: threading.Event
) -> dict[str, _Entry]:
    by_key: dict[bytes, bytes] = {}
    for key, value in records:
        if dropped.is_set():
            break
        if value is None:
            by_key.pop(key, None)
        else:
            by_key[key] = value
    entries: dict[str, _Entry] = {}
    for key, value in by_key.items():
        try:
            # Now, because one that a newer version wrote must not show in the midst of a run.
            state = decode_state(value)
        except InvalidRecord as error:
            if error.kind == "unsupported_version":
                raise ConfigurationError(
                    f"changelog partition {partition}: {error}; run the version that wrote it"
                ) from error
            log.error("changelog partition %d, key %r starts anew: %s", partition, key, error)
            continue
        _keep(entries, state.user_id, _Entry(state.applied, value, key))
    return entries


def _keep(entries: dict[str, _Entry], user_id: str, entry: _Entry) -> None:
    known = entries.get(user_id)
    if known is None or entry.applied >= known.applied:
        entries[user_id] = entry
