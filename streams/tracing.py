"""Where a stage says what happens to single records, for whoever follows some of them from topic to topic."""

from collections.abc import Sequence

from schemas.errors import InvalidRecord
from streams.record import Message, Record


class Tracing:
    """Follows nothing, and so costs a run a few empty calls and a record nothing."""

    on: bool = False

    def begin(self, records: Sequence[Record]) -> None:
        """Note that a run was handed over."""

    def carried(self, messages: Sequence[Message], records: Sequence[Record]) -> Sequence[Message]:
        """Return `messages`, each with the trace of that of the `records` which caused it."""
        return messages

    def tried_again(self, records: Sequence[Record], error: Exception) -> None:
        """Note that a try failed."""

    def refused(self, record: Record, error: InvalidRecord) -> None:
        """Note that a record became a dead letter."""

    def end(self, records: Sequence[Record], error: BaseException | None = None) -> None:
        """Note that all effects of a run are durable, or that it was left unfinished because of `error`."""

    def close(self) -> None:
        """Hand over what is kept here; takes a few seconds at most."""
