"""What is remembered of a user: the value of the user-states changelog, msgpack."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from schemas.errors import InvalidRecord
from schemas.fields import EpochMs, Id, SchemaVersion

Amount = Annotated[float, Meta(ge=0.0)]
_RECENT_BYTES = 512
_PROBE_BYTES = 64
_MOST_GONE = 64


class Affinity(Struct, frozen=True, array_like=True, gc=False):
    """Decayed sums over watches of one attribute: `n` of its probability, `s` of satisfaction times probability.

    Both stand as of the state's `updated_at_ms`; the session copy forgets within the hour.
    """

    n: Amount
    s: Amount
    session_n: Amount
    session_s: Amount


class UserState(Struct, frozen=True, array_like=True, kw_only=True):
    """A user, as of the watch event at offset `applied` of its partition. Key: user_id.

    `affinities` are by attribute id: the catalogue may change. `taste` is the decayed mean of satisfied videos' vectors
    (float16, little-endian; empty before the first) and `taste_weight` the satisfaction in it. `watched` holds the ids
    of the latest watches, oldest first, as they are on the wire: every watch adds one, few need them. `labeler` says
    which satisfaction was added last. The record is an array on the wire: new fields go to the end, with a default.
    """

    schema_version: SchemaVersion
    applied: Annotated[int, Meta(ge=0)]
    user_id: Id
    updated_at_ms: EpochMs
    session_id: Id
    watches_since_list: Annotated[int, Meta(ge=0)]
    affinities: dict[str, Affinity]
    taste: bytes
    taste_weight: Amount
    watched: Raw
    labeler: str = ""

    def __post_init__(self) -> None:
        """Refuse a taste that is no float16 vector, and watched ids that are no list."""
        if len(self.taste) % 2:
            raise ValueError(f"taste of {len(self.taste)} bytes is no float16 vector")
        _count(memoryview(self.watched))

    @property
    def seen(self) -> tuple[str, ...]:
        """The videos of the latest watches, oldest first.

        Raises:
            InvalidRecord: they are no strings.

        """
        try:
            return _watched_decoder.decode(self.watched)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise InvalidRecord("invalid", f"user state of {self.user_id!r}: watched: {error}") from error


encode_state = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(UserState)
_watched_decoder = msgspec.msgpack.Decoder(tuple[str, ...])


def decode_state(value: bytes) -> UserState:
    """Return the state in `value`; what it has watched is looked at when `seen` is asked for.

    Raises:
        InvalidRecord: undecodable (no msgpack), unsupported_version, or invalid.

    """
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        unsupported = str(error).endswith("`$[0]`")
        raise InvalidRecord("unsupported_version" if unsupported else "invalid", f"user state: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord("undecodable", f"user state: {error}") from error


def watched_ids(video_ids: Iterable[str]) -> Raw:
    """Return video ids, oldest first, as a state holds them."""
    return Raw(encode_state(tuple(video_ids)))


def with_watched(watched: Raw, video_id: str, most: int) -> Raw:
    """Return `watched` and one id more; of more than `most`, without the oldest.

    Only the ends of the list are looked at: it is long, and every watch changes it. So a video that plays in a loop is
    there once, and one that was watched long before twice.
    """
    view, item = memoryview(watched), encode_state(video_id)
    if item in bytes(view[-_RECENT_BYTES:]):  # it may be part of another id: look properly
        view = memoryview(watched_ids(other for other in _watched_decoder.decode(view) if other != video_id))
    count, start = _count(view)
    for _ in range(count + 1 - most):
        start += _string_bytes(view, start)
    count = min(count + 1, most)
    head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return Raw(b"".join((head, view[start:], item)))


def watched_since(watched: Raw, before: Raw) -> tuple[int, tuple[str, ...]] | None:
    """Return how many ids at the start of `before` are gone in `watched`, and which are new at its end.

    None where that is not all that has changed. Only the ends are taken apart.
    """
    view, old = memoryview(watched), memoryview(before)
    (count, start), (old_count, old_start) = _count(view), _count(old)
    body, old_body = bytes(view[start:]), bytes(old[old_start:])
    kept_from = old_body.find(body[: min(_PROBE_BYTES, len(old_body))])
    gone, at = 0, 0
    while at < kept_from and gone < _MOST_GONE:
        at += _string_bytes(memoryview(old_body), at)
        gone += 1
    if at != kept_from or not body.startswith(old_body[at:]):
        return None
    latest = count - (old_count - gone)
    return gone, _watched_decoder.decode(b"\xdc" + latest.to_bytes(2, "big") + body[len(old_body) - at :])


def _count(array: memoryview) -> tuple[int, int]:
    """Return how many items a msgpack array of at most 65,535 has, and where the first begins."""
    kind = array[0]
    if kind >> 4 == 0x9:
        return kind & 0xF, 1
    if kind == 0xDC:
        return int.from_bytes(array[1:3], "big"), 3
    raise ValueError(f"watched begins with byte {kind:#x}, which is no list")


def _string_bytes(array: memoryview, at: int) -> int:
    """Return how many bytes the msgpack string at `at` takes."""
    kind = array[at]
    if kind >> 5 == 0b101:
        return 1 + (kind & 0x1F)
    width = {0xD9: 1, 0xDA: 2, 0xDB: 4}[kind]
    return 1 + width + int.from_bytes(array[at + 1 : at + 1 + width], "big")
