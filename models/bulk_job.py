"""Batch jobs on disk: what was asked, and by what name the answers can be fetched."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from models.annotator import Question
from models.durable import replace_file
from models.llm_outcome import Usage
from schemas.annotation import AnnotatorVersion
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload


class Request(Struct):
    """One request of a job; its code and the order of its questions give the ids that the answers must echo."""

    nonce: str
    asking: list[tuple[VideoUpload, tuple[str, ...]]]

    @classmethod
    def of(cls, nonce: str, questions: Sequence[Question]) -> "Request":
        """Return the request that asks `questions`."""
        return cls(nonce, [(question.upload, question.attributes) for question in questions])

    @property
    def questions(self) -> list[Question]:
        """The questions, in order."""
        return [Question(upload, attributes) for upload, attributes in self.asking]

    @property
    def asked(self) -> dict[str, Question]:
        """The questions by the ids that are given out."""
        return {f"{self.nonce}-{i}": question for i, question in enumerate(self.questions)}


class Job(Struct):
    """A job; `mark` is its display name, by which it is found when its `name` was never learnt."""

    mark: str
    version: AnnotatorVersion
    requests: list[Request]
    room: int
    reservation: int
    most: Usage
    name: str = ""


class JobFolder:
    """One JSON file per unfinished job, on disk before `write` returns."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            ConfigurationError: it can't be made.

        """
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"batch jobs can't be kept in {folder}: {error}; see VIBESTREAM_LLM_STATE"
            ) from error

    def unfinished(self, version: AnnotatorVersion) -> list[Job]:
        """Return the jobs of this model and prompt that were begun and not finished."""
        jobs = [self._read(path) for path in sorted(self._folder.glob("*.json"))]
        return [job for job in jobs if job.version == version]

    def write(self, job: Job) -> None:
        """Keep a job."""
        replace_file(self._path(job), msgspec.json.encode(job))

    def name(self, job: Job, name: str) -> None:
        """Write down by what name a job goes."""
        job.name = name
        self.write(job)

    def remove(self, job: Job) -> None:
        """Forget a job whose answers are kept."""
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: Job) -> Path:
        return self._folder / f"{job.mark}.json"

    def _read(self, path: Path) -> Job:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Job)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(f"{path}: {error}; move it away, its batch job is then asked again") from error
