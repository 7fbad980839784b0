"""Calls to LanceDB: each within a deadline, and each failure as an error of ours."""

from collections.abc import Callable
from typing import TypeVar

from schemas.errors import StoreUnavailable
from streams.deadline import Deadline
from streams.table_damage import reason

T = TypeVar("T")
LANCE_ERRORS = (OSError, RuntimeError, ValueError)
"""What LanceDB raises; an unreachable store comes as any of the three."""


class StoreCalls:
    """Runs calls to the database at `uri` one after another, each for at most `deadline_s` seconds."""

    def __init__(self, uri: str, deadline_s: float) -> None:
        self.uri = uri
        self.deadline_s = deadline_s
        self._deadline = Deadline(deadline_s, "lancedb")

    def run(self, action: str, call: Callable[[], T], progress: Callable[[], object] | None = None) -> T:
        """Return what `call` returns; `action` says in an error what it was. See `Deadline.run` on `progress`.

        Raises:
            StoreUnavailable: LanceDB failed, or did not answer in time.

        """
        try:
            return self._deadline.run(call, progress)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"LanceDB did not {action} the attribute table at {self.uri} within {self.deadline_s:g} s. Check that"
                " the store answers; if it is only slow, raise VIBESTREAM_STORE_DEADLINE_S"
            ) from error
        except LANCE_ERRORS as error:
            raise StoreUnavailable(
                f"LanceDB can't {action} the attribute table at {self.uri}: {reason(error)}. Check that the address"
                " exists, is reachable and writable, and has free space"
            ) from error
