"""The states of the users whose watch events this worker reads."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from schemas.errors import BrokerUnavailable, ConfigurationError, InvalidRecord
from schemas.user_state import UserState, decode_state

log = logging.getLogger(__name__)

Recover = Callable[[int], Awaitable[Iterable[tuple[bytes, bytes | None]]]]
"""Returns (key, value) of the records of a changelog partition, oldest first."""

_Entry = tuple[int, bytes]  # applied offset, encoded state: a tenth of the decoded one's memory


class UserStates:
    """States per partition of watch-events, recovered from the changelog partition of the same number.

    Of two states of a user the one with the higher applied offset stands, wherever it comes from: a worker that lost
    its partition may still write an older one.
    """

    def __init__(self, recover: Recover) -> None:
        self._recover = recover
        self._partitions: dict[int, dict[str, _Entry]] = {}
        self._forgotten = 0

    async def ensure(self, partition: int) -> None:
        """Recover a partition unless that was done since it was last forgotten.

        Raises:
            ConfigurationError: a state was written by a newer version.

        """
        while partition not in self._partitions:
            forgotten = self._forgotten
            records = await self._recover(partition)
            entries = await asyncio.to_thread(_latest, partition, records)
            if forgotten == self._forgotten:
                self._partitions.setdefault(partition, entries)

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop partitions; call it whenever some are revoked or newly assigned."""
        self._forgotten += 1
        for partition in partitions:
            self._partitions.pop(partition, None)

    def get(self, partition: int, user_id: str) -> UserState | None:
        """Return the state of a user, None if there is none yet.

        Raises:
            BrokerUnavailable: the partition was forgotten meanwhile; a user without a state can't be told from one
                whose state was dropped.

        """
        entries = self._partitions.get(partition)
        if entries is None:
            raise BrokerUnavailable(f"user states of partition {partition} were dropped: it was reassigned")
        entry = entries.get(user_id)
        return decode_state(entry[1]) if entry else None

    def put(self, partition: int, user_id: str, applied: int, value: bytes) -> None:
        """Keep an encoded state, unless its partition is forgotten."""
        entries = self._partitions.get(partition)
        if entries is not None:
            _keep(entries, user_id, applied, value)


def _latest(partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for key, value in records:
        if value is None:
            entries.pop(key.decode(), None)
            continue
        try:
            # The whole state, not only its head: one that can't be used must show now and not in the midst of a run.
            state = decode_state(value)
        except InvalidRecord as error:
            if error.kind == "unsupported_version":
                raise ConfigurationError(
                    f"changelog partition {partition}: {error}; run the version that wrote it"
                ) from error
            log.error("changelog partition %d, user %r starts anew: %s", partition, key, error)
            continue
        _keep(entries, state.user_id, state.applied, value)
    return entries


def _keep(entries: dict[str, _Entry], user_id: str, applied: int, value: bytes) -> None:
    known = entries.get(user_id)
    if known is None or applied >= known[0]:
        entries[user_id] = (applied, value)
