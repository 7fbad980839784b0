"""JSON on Kafka: records to bytes and back."""

from typing import Generic, TypeVar

import msgspec

from schemas.errors import InvalidRecord

T = TypeVar("T", bound=msgspec.Struct)

encode = msgspec.json.Encoder().encode


def encode_with(record: msgspec.Struct, name: str, value: bytes) -> bytes:
    """Return the JSON of `record` with one field more, whose value is JSON already and which `record` leaves out."""
    return b'%b,"%b":%b}' % (encode(record)[:-1], name.encode(), value)


class Decoder(Generic[T]):
    """Decodes and validates one type of record; unknown fields are ignored."""

    def __init__(self, record_type: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(record_type)

    def decode(self, value: bytes) -> T:
        """Return the record in `value`.

        Raises:
            InvalidRecord: undecodable (no UTF-8 JSON), unsupported_version, or invalid (missing, wrong type or out of
                range).

        """
        try:
            return self._decoder.decode(value)
        except msgspec.ValidationError as error:
            unsupported = str(error).endswith("`$.schema_version`")
            raise InvalidRecord("unsupported_version" if unsupported else "invalid", str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRecord("undecodable", str(error)) from error
