"""What a run makes while the one before may still wait for the broker."""

from collections.abc import Callable, Sequence

from streams.record import Effects, Handed, Message

Send = Callable[[Message], None]

HandOver = Callable[[Sequence[Message]], Sequence[Handed]]
"""Has messages sent without waiting for them. Their acknowledgements have come when the next `Produce` returns."""


class Early:
    """The messages of a run whose effects are not known as a whole yet.

    They are handed over one by one as soon as `last`, on which the run is built, is durable; until then they are held.
    So none overtakes those of the run before, and none goes out that is built on what did not come to be.
    """

    def __init__(self, last: Effects | None, is_durable: Callable[[], bool], hand_over: HandOver | None) -> None:
        """`last` are the effects of the run before, None if it is durable; without `hand_over` all is held."""
        self.last = last
        self.held: list[Message] = []
        self.handed: list[Handed] = []
        self._is_durable = is_durable
        self._hand_over = hand_over

    def send(self, message: Message) -> None:
        """Hand `message` over, behind those that were held, or hold it."""
        self.held.append(message)
        if self._hand_over is not None and (self.last is None or self._is_durable()):
            self.handed += self._hand_over(self.held)
            self.held = []
