"""What the cascade says about a video, and what it asks the LLM."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.errors import MediaFault
from schemas.events import VideoUpload
from schemas.fields import DurationMs, EpochMs, Id, Language, Probability, SchemaVersion

Status = Literal["provisional", "final", "removed"]
Source = Literal["student", "llm"]
Band = Literal["accept", "uncertain", "reject"]

MediaStatus = Literal["pending", "off", "unused", "used"] | MediaFault
"""pending: another annotation follows when the video was looked at. off: this installation looks at none. unused: it
does, but nothing here reads what is in a video. used: the scores and the embedding come from it, too. Else: why not."""

_RANK: dict[Status, int] = {"provisional": 0, "final": 1, "removed": 2}


class AttributeScore(Struct, frozen=True, omit_defaults=True, gc=False):
    """One attribute of one video.

    `p` is the student's calibrated probability and `band` where it fell. `label` is the decision: None while it is
    open, and for good when the LLM found it unclear. `evidence` is the text that the LLM named. `certified`: the
    student's bundle proves that labels of this attribute, the LLM's among them, keep the catalogue's targets; where it
    is not True nothing may be restricted to the attribute under a guarantee. None: written before there were proofs.
    """

    p: Probability
    band: Band
    label: bool | None
    source: Source
    evidence: Annotated[str, Meta(max_length=500)] | None = None
    certified: bool | None = None


class Media(Struct, frozen=True, omit_defaults=True):
    """What became of the video behind `media_uri`; `reason` is for people and says why it was not used, or not whole.

    `frames` and `sound` say what the student's scores and embedding rest on beside the text; `on_screen`: text that was
    read in the frames is part of it, `heard`: so is a transcript that was made here. `llm`: what the LLM was given.
    """

    status: MediaStatus
    reason: Annotated[str, Meta(max_length=500)] | None = None
    frames: Annotated[int, Meta(ge=0)] = 0
    sound: bool = False
    on_screen: bool = False
    heard: bool = False
    llm: Literal["video", "text"] | None = None

    @property
    def looked_at(self) -> bool:
        """Whether the media role has had its say."""
        return self.status not in ("pending", "off", "unused")


class StudentVersion(Struct, frozen=True):
    """The bundle that scored: model, calibration and bands are fixed by it."""

    name: Id
    version: Annotated[int, Meta(ge=1, le=2**11 - 1)]


class AnnotatorVersion(Struct, frozen=True):
    """The LLM and prompt that answered."""

    kind: Literal["gemini", "local"]
    model: Id
    prompt: Id
    prompt_version: Annotated[int, Meta(ge=1, le=2**8 - 1)]
    prompt_hash: Id


class Annotation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is known about a video's attributes. Key: video_id; `seq` orders the annotations of one video.

    provisional: some attribute is with the LLM, or the video is still to be looked at; final: decided; removed: the
    video was taken down.
    `received_at_ms` is the broker's timestamp of the upload (or of its take-down). `embedding` is L2-normalised
    float16, little-endian (base64 on the wire). `reason` says why a final label is the student's guess and not the
    LLM's answer, or why a provisional one stays so. `guarantee` is False where the LLM should have been asked and was
    not: none of the quality targets is claimed for such a video. `media`: None where the upload names none.
    """

    schema_version: SchemaVersion
    video_id: Id
    status: Status
    received_at_ms: EpochMs
    annotated_at_ms: EpochMs
    creator_id: Id | None = None
    uploaded_at_ms: EpochMs | None = None
    language: Language | None = None
    duration_ms: DurationMs | None = None
    attributes: dict[str, AttributeScore] = {}
    embedding: bytes | None = None
    student: StudentVersion | None = None
    annotator: AnnotatorVersion | None = None
    reason: Annotated[str, Meta(max_length=500)] | None = None
    guarantee: bool | None = None
    media: Media | None = None

    @property
    def source(self) -> Source:
        """Who had the last word."""
        return "student" if self.annotator is None else "llm"

    @property
    def content_ms(self) -> int:
        """When the annotated content came to be: the upload time, but never later than the broker saw it.

        A producer with a fast clock must not outrank the take-down that follows.
        """
        return self.received_at_ms if self.uploaded_at_ms is None else min(self.uploaded_at_ms, self.received_at_ms)

    @property
    def seq(self) -> int:
        """Order among the annotations of this video, 63 bits: content time, status, student version, prompt version.

        The student's has no prompt. It stands above the one from before its video was looked at, and, where its
        guarantee was withdrawn, above the one that had it.
        """
        student = self.student.version if self.student else 0
        prompt = self.annotator.prompt_version if self.annotator else int(self.looked_at) + int(self.guarantee is False)
        return self.content_ms << 21 | _RANK[self.status] << 19 | student << 8 | prompt

    @property
    def first(self) -> bool:
        """Whether it is the first about this content: the student's, before media and review had their say."""
        return (
            self.source == "student" and self.status != "removed" and self.guarantee is not False and not self.looked_at
        )

    @property
    def looked_at(self) -> bool:
        """Whether the media role has had its say."""
        return self.media is not None and self.media.looked_at


class ReviewRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Ask the LLM about the uncertain attributes of one video. Key: video_id.

    `certified_with`: the LLM and prompt whose answers the student's certificate was proven with; an answer of another
    one is not certified. None: the certificate names none, because its rates were only stated.
    """

    schema_version: SchemaVersion
    upload: VideoUpload
    annotation: Annotation
    attributes: Annotated[tuple[Id, ...], Meta(min_length=1)]
    certified_with: AnnotatorVersion | None = None


class MediaRequest(Struct, frozen=True, kw_only=True):
    """Look at the video of an upload that was annotated by its text. Key: video_id."""

    schema_version: SchemaVersion
    upload: VideoUpload
    received_at_ms: EpochMs
