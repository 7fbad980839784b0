"""Every error that vibestream raises.

VibestreamError
├── ConfigurationError     the operator can mend it: setting, catalogue, bundle, broker address
│   ├── CatalogueError     the attribute catalogue is malformed
│   ├── BundleError        a student bundle is missing, damaged or does not fit this machine
│   └── DamagedTable       files of the attribute table are gone or cut short
├── InvalidRecord          one record can't be used; it goes to dead-letters with its `kind`
├── MediaProblem           a video can't be looked at; its text goes on, and the annotation says why
└── Unavailable            a service is away for now; the work is tried again, nothing is dropped
    ├── BrokerUnavailable
    ├── StoreUnavailable
    └── AnnotatorUnavailable
"""

from typing import Literal

ErrorKind = Literal["undecodable", "invalid", "unsupported_version", "impossible", "failed"]
"""Why a record is dead: bytes that are no JSON; a field missing, of a wrong type or out of range; a `schema_version`
from the future; contradictory content; or a stage that raised on this record alone, every time it was tried."""


MediaFault = Literal["refused", "unavailable", "too_large", "unreadable"]
"""Why a video is not looked at: the operator's rules; missing, or a host that is away or slow; over a limit of bytes,
pixels or seconds; or nothing in it that can be decoded."""


class VibestreamError(Exception):
    """Base of all errors of this project."""


class ConfigurationError(VibestreamError):
    """Something the operator set is wrong; the message names the value and the remedy."""


class CatalogueError(ConfigurationError):
    """The attribute catalogue is malformed."""


class BundleError(ConfigurationError):
    """A student bundle is missing, damaged, or can't run as asked."""


class DamagedTable(ConfigurationError):
    """Files of the table are gone or cut short; no later try will help."""

    def __init__(self, uri: str, name: str, what: str) -> None:
        super().__init__(
            f"table {name!r} at {uri} is damaged: {what}. Stop the store workers and delete "
            f"{uri.rstrip('/')}/{name}.lance;"
            " then run `vibestream store restore` with a backup and replay the annotations since, or replay the"
            " annotations topic from its beginning"
        )


class InvalidRecord(VibestreamError):
    """One record can't be used, now or later."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind


class MediaProblem(VibestreamError):
    """A video can't be looked at: not allowed, not to be had, too large, or nothing that can be decoded."""

    def __init__(self, status: MediaFault, reason: str) -> None:
        super().__init__(reason)
        self.status: MediaFault = status


class Unavailable(VibestreamError):
    """A service is away for now; try again later, drop nothing."""


class BrokerUnavailable(Unavailable):
    """Kafka did not acknowledge."""


class StoreUnavailable(Unavailable):
    """LanceDB did not answer or refused the write."""


class AnnotatorUnavailable(Unavailable):
    """The LLM can't be asked now: rate limit, quota, credentials, network, server error."""
