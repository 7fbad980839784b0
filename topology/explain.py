"""Why a list is as it is: read from session-candidates, and told to a person."""

import logging
from collections import Counter
from datetime import UTC, datetime

import msgspec

from schemas.candidates import Candidate, Fallback, SessionCandidates
from schemas.errors import InvalidRecord
from schemas.wire import Decoder
from topology.kafka import read_topic
from topology.settings import Settings
from topology.topics import SESSION_CANDIDATES

log = logging.getLogger(__name__)

FALLBACKS: dict[Fallback, str] = {
    "none": "none was needed",
    "any_attribute": "videos with another of the list's attributes",
    "uncertain": "videos that only probably have the attribute, or without a certificate",
    "co_watched": "what users of the same watches watch",
    "popular": "what is popular",
    "newest": "the newest videos",
}
"""What filled the last places of a list, in words."""
_PARTS = {"probability": "log p"}


def find_list(settings: Settings, session_id: str, event_id: str | None = None) -> SessionCandidates | None:
    """Return the latest list of a session, or the one that an event caused; None if there is none.

    Raises:
        BrokerUnavailable: the broker does not answer, or the topic is not there.

    """
    decoder, key = Decoder(SessionCandidates), session_id.encode()
    latest: SessionCandidates | None = None
    for record in read_topic(settings, SESSION_CANDIDATES):
        if record.key != key or record.value is None:
            continue
        try:
            made = decoder.decode(record.value)
        except InvalidRecord as error:
            log.warning("%s/%d/%d: %s", record.topic, record.partition, record.offset, error)
            continue
        if event_id in (None, made.event_id) and (latest is None or made.emitted_at_ms >= latest.emitted_at_ms):
            latest = made
    return latest


def describe(made: SessionCandidates) -> str:
    """Return the list as text: what it was made for, what filled it, each video with its reason, what was removed."""
    at = datetime.fromtimestamp(made.emitted_at_ms / 1000, UTC).isoformat(timespec="seconds")
    lanes = Counter(candidate.lane for candidate in made.candidates)
    width = max([len(candidate.video_id) for candidate in made.candidates], default=0)
    return "\n".join(
        [
            f"session {made.session_id}, user {made.user_id}: list of event {made.event_id}, {at}",
            f"satisfaction   {made.labeler or 'unknown'}",
            f"places asked   {_counts(made.quotas)}",
            f"places filled  {_counts(lanes)}",
            f"last resort    {FALLBACKS[made.fallback]}",
            f"removed        {_counts(made.removed)}",
            "",
            *(
                f"{n:4}  {one.video_id:{width}}  {one.score:8.4f}  {_why(one)}"
                for n, one in enumerate(made.candidates, 1)
            ),
        ]
    )


def _counts(of: dict[str, int] | Counter[str]) -> str:
    ordered = sorted(of.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def _why(candidate: Candidate) -> str:
    lane = candidate.lane if candidate.attribute is None else f"{candidate.lane}: {candidate.attribute}"
    uncertain = " (uncertain)" if candidate.uncertain else ""
    parts = {} if candidate.parts is None else msgspec.to_builtins(candidate.parts)
    sum_of = " ".join(f"{_PARTS.get(name, name)} {value:+.4f}" for name, value in parts.items())
    return f"{lane}{uncertain}  {sum_of}".rstrip()
