"""A journal of an annotator's answers that survives kill -9, so that nothing is asked twice."""

import fcntl
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from models.annotator import Answered, Declined, Outcome
from models.durable import append
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError

JOURNAL = "journal.jsonl"


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """What a journal is about: the sample's bytes, who answers, and the attributes with their versions."""

    sample: str
    annotator: AnnotatorVersion
    attributes: dict[str, int]


class Entry(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The answer about one video: a verdict per attribute (None: unclear), or why there will never be one."""

    video_id: str
    verdicts: dict[str, bool | None] = {}
    declined: str | None = None


def header(sample: Path, annotator: AnnotatorVersion, catalogue: Catalogue) -> Header:
    """Return the header of a journal about the sample in a file."""
    versions = {attribute.id: attribute.version for attribute in catalogue.attributes}
    return Header(sha256(sample.read_bytes()).hexdigest(), annotator, versions)


class Journal:
    """An append-only file, a line per answered video, on disk before `append` returns. One process at a time.

    A context manager. A line that was cut off by the end of a process is taken back when the file is opened.
    """

    def __init__(self, folder: Path, about: Header) -> None:
        """Open the journal in `folder`, or begin it.

        Raises:
            ConfigurationError: it is damaged, about something else, in use, or can't be written.

        """
        self._path = folder / JOURNAL
        self.entries: dict[str, Entry] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}; choose a folder that can be written") from error
        try:
            self._open(about)
        except BaseException:
            self._file.close()
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep answers; those of videos that have one already are an error of the caller."""
        twice = [entry.video_id for entry in entries if entry.video_id in self.entries]
        if twice:
            raise ValueError(f"{self._path}: {twice[0]} is answered already")
        self._write(entries)
        self.entries.update((entry.video_id, entry) for entry in entries)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def _open(self, about: Header) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"{self._path} is in use; wait for the other `silver label`") from error
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        self._file.truncate(whole)
        lines = content[:whole].splitlines()
        if not lines:
            self._write([about])
            return
        number = 1
        try:
            begun = msgspec.json.decode(lines[0], type=Header)
            decode = msgspec.json.Decoder(Entry).decode
            for line in lines[1:]:
                number += 1
                found = decode(line)
                self.entries[found.video_id] = found
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{self._path} line {number}: {error}; take the line out, or begin in another folder"
            ) from error
        if begun != about:
            raise ConfigurationError(
                f"{self._path} was begun with {_difference(begun, about)}; go on with that, or choose another folder"
            )

    def _write(self, lines: Sequence[Struct]) -> None:
        try:
            append(self._file, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}; make room and go on") from error


def entry(video_id: str, outcome: Outcome) -> Entry | None:
    """Return what is kept of an outcome; None of one that is to be asked again."""
    match outcome:
        case Answered(verdicts=verdicts):
            return Entry(video_id, {name: verdict.label for name, verdict in verdicts.items()})
        case Declined(reason=reason):
            return Entry(video_id, declined=reason)
        case _:
            return None


def _difference(begun: Header, about: Header) -> str:
    if begun.sample != about.sample:
        return "another sample"
    if begun.annotator != about.annotator:
        was, now = (
            f"{v.model}, prompt {v.prompt} {v.prompt_version} ({v.prompt_hash})"
            for v in (begun.annotator, about.annotator)
        )
        return f"{was} and not with {now}"
    return "other attributes, or other versions of them"
