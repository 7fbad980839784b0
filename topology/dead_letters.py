"""Working through dead-letters: which are open, what is in them, sending their records again, dropping them.

A handled letter is filed again under its key with a resolution rather than deleted by a tombstone: the letter is what
accounts for its upload in `vibestream audit`, so it has to stay, with whatever clean-up the topic has. A record that is
sent again is a record of its own there, accounted for by its own annotation or by the dead letter of its own offset.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from schemas.dead_letter import DeadLetter, Resolution
from schemas.errors import ConfigurationError, InvalidRecord
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from streams.uploads import RECEIVED_HEADER
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings
from topology.topics import DEAD_LETTERS

log = logging.getLogger(__name__)

REPLAYS_HEADER = "vibestream-replays"
"""How often a record has been sent again, as decimal digits."""
ORIGIN_HEADER = "vibestream-origin"
"""Where the record lay when it was refused for the first time."""
MAX_REPLAYS = 3
"""What came back so often is not sent again unless somebody insists."""

# What is sent again but not yet marked when the broker goes away is sent twice; the effects are idempotent.
_BATCH = 500
_HEX_BYTES = 256
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which letters are meant; None, or no topics, means any.

    Times are those of the failure, from `since_ms` to before `until_ms`.
    """

    kind: str | None = None
    stage: str | None = None
    topics: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    handled: bool = False

    def takes(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant; handled ones are only with `handled`."""
        return (
            self.kind in (None, letter.kind)
            and self.stage in (None, letter.stage)
            and (not self.topics or letter.topic in self.topics)
            and (self.since_ms is None or letter.failed_at_ms >= self.since_ms)
            and (self.until_ms is None or letter.failed_at_ms < self.until_ms)
            and (self.handled or letter.resolution is None)
        )


def parse_time(text: str) -> int:
    """Return the epoch milliseconds of an ISO time (UTC unless it has an offset), or of a duration ago, like 2h.

    Raises:
        ConfigurationError: it is neither.

    """
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if ago:
        return now_ms() - int(ago[1]) * _UNITS_MS[ago[2]]
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is no time; write 2025-11-22T08:00 (UTC), or how long ago: 90s, 30m, 2h, 3d"
        ) from error
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def read_letters(settings: Settings, quiet_s: float = 2.0) -> dict[str, DeadLetter]:
    """Return the letters by origin; of those with the same origin, the newest.

    A letter that was handled stays so when its record is delivered and refused again.

    Raises:
        BrokerUnavailable: the broker does not answer, or the topic is not there.

    """
    decoder, letters = Decoder(DeadLetter), dict[str, DeadLetter]()
    for record in read_topic(settings, DEAD_LETTERS, quiet_s):
        if record.value is None:
            continue
        try:
            letter = decoder.decode(record.value)
        except InvalidRecord as error:
            log.warning("%s/%d/%d is no dead letter: %s", record.topic, record.partition, record.offset, error)
            continue
        known = letters.get(letter.origin)
        letters[letter.origin] = letter if known is None else _newest(known, letter)
    return letters


def _newest(known: DeadLetter, letter: DeadLetter) -> DeadLetter:
    # Another time at the same offset is another record: the topic was made anew.
    if known.timestamp_ms != letter.timestamp_ms:
        return letter
    newest = letter if letter.failed_at_ms >= known.failed_at_ms else known
    resolutions = [one.resolution for one in (known, letter) if one.resolution is not None]
    return msgspec.structs.replace(newest, resolution=max(resolutions, key=lambda one: one.at_ms, default=None))


def select(letters: Iterable[DeadLetter], wanted: Filter) -> list[DeadLetter]:
    """Return the letters that are meant, the oldest failure first."""
    return sorted(filter(wanted.takes, letters), key=lambda letter: (letter.failed_at_ms, *_position(letter)))


def find(letters: Mapping[str, DeadLetter], origins: Iterable[str]) -> list[DeadLetter]:
    """Return the letters of these origins, each once, handled ones too.

    Raises:
        ConfigurationError: an origin has no letter.

    """
    found: list[DeadLetter] = []
    for origin in dict.fromkeys(origins):
        if origin not in letters:
            raise ConfigurationError(
                f"no dead letter has the origin {origin!r}; see: vibestream dlq list --all (topic/partition/offset)"
            )
        found.append(letters[origin])
    return found


def replays(letter: DeadLetter) -> int:
    """Return how often the letter's record has been sent again so far, over all letters that it caused."""
    if letter.resolution is not None:
        return letter.resolution.replays
    count = dict(letter.headers).get(REPLAYS_HEADER) or b""
    return int(count) if re.fullmatch(rb"\d{1,9}", count) else 0  # anything else was not written by us


def replay(settings: Settings, producer: ConfirmedProducer, letters: Iterable[DeadLetter]) -> None:
    """Send the records of `letters` to where they came from, in the order they had there, and mark the letters.

    They go to their own partition: whoever produced them may hash keys otherwise. A header keeps the time at which the
    broker took them first, or a take-down would outrank what was uploaded since.

    Raises:
        BrokerUnavailable: the broker stopped acknowledging; letters that are not marked may have been sent.

    """
    ordered = sorted(letters, key=_position)
    for start in range(0, len(ordered), _BATCH):
        batch = ordered[start : start + _BATCH]
        producer.produce_now([_again(letter) for letter in batch])
        producer.produce_now([_marked(settings, letter, "replayed", replays(letter) + 1) for letter in batch])


def drop(settings: Settings, producer: ConfirmedProducer, letters: Sequence[DeadLetter]) -> None:
    """Mark letters as handled without sending anything.

    Raises:
        BrokerUnavailable: the broker stopped acknowledging; some may be marked.

    """
    for start in range(0, len(letters), _BATCH):
        batch = letters[start : start + _BATCH]
        producer.produce_now([_marked(settings, letter, "dropped", replays(letter)) for letter in batch])


def _position(letter: DeadLetter) -> tuple[str, int, int]:
    return letter.topic, letter.partition, letter.offset


def _again(letter: DeadLetter) -> Message:
    before = dict(letter.headers)
    ours = {
        REPLAYS_HEADER: str(replays(letter) + 1).encode(),
        ORIGIN_HEADER: before.get(ORIGIN_HEADER) or letter.origin.encode(),
        RECEIVED_HEADER: before.get(RECEIVED_HEADER) or str(letter.timestamp_ms).encode(),
    }
    headers = [*(header for header in letter.headers if header[0] not in ours), *ours.items()]
    return Message(letter.topic, letter.key, letter.payload, headers, letter.partition)


def _marked(settings: Settings, letter: DeadLetter, action: Literal["replayed", "dropped"], replayed: int) -> Message:
    handled = msgspec.structs.replace(letter, resolution=Resolution(action=action, at_ms=now_ms(), replays=replayed))
    return Message(settings.topic(DEAD_LETTERS), letter.origin.encode(), encode(handled))


def line(letter: DeadLetter, width: int | None = None) -> str:
    """Return the letter on one line of at most `width` characters."""
    state = "" if letter.resolution is None else f"[{letter.resolution.action}] "
    message = " ".join(letter.message.split())
    text = _printable(f"{letter.origin}  {letter.kind}  {letter.stage}  {_iso(letter.failed_at_ms)}  {state}{message}")
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def json_line(letter: DeadLetter) -> str:
    """Return the letter as one JSON object, as it lies in the topic, with its origin."""
    return encode({"origin": letter.origin, **msgspec.structs.asdict(letter)}).decode()


def describe(letter: DeadLetter) -> str:
    """Return all there is to know about a letter, as text for a terminal."""
    done = letter.resolution
    fields = {
        "origin": letter.origin,
        "state": "open" if done is None else f"{done.action} at {_iso(done.at_ms)}",
        "replays": f"{replays(letter)}",
        "stage": letter.stage,
        "kind": letter.kind,
        "message": letter.message,
        "received": _iso(letter.timestamp_ms),
        "failed": _iso(letter.failed_at_ms),
        "key": _text(letter.key),
        **{f"header {name}": _text(value) for name, value in letter.headers},
    }
    lines = [f"{name}: {value}" for name, value in fields.items()]
    size = "" if letter.payload is None else f" ({len(letter.payload)} bytes)"
    return _printable("\n".join([*lines, f"payload{size}:", _text(letter.payload)]))


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _hex(value)
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return text


def _hex(value: bytes) -> str:
    rows = [f"{at:08x}  {value[at : at + 16].hex(' ')}" for at in range(0, min(len(value), _HEX_BYTES), 16)]
    more = len(value) - _HEX_BYTES
    return "\n".join(["", *rows, *([f"... and {more} bytes more"] if more > 0 else [])])


def _printable(text: str) -> str:
    # What lies in a dead letter may be meant to take over the terminal.
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)
