"""What looks at videos, as the settings have it."""

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from models.clip import VideoTerms
from models.media.clips import Clips, PresumedClips
from models.media.decode import DecodeLimits, DecodePool, Plan
from models.media.extract import Kind
from models.media.fetch import FetchLimits, MediaFetcher
from models.media.frame_encoder import FrameEncoder
from models.media.look import Looker
from models.media.objects import ObjectStores
from models.media.on_screen import PIXELS
from models.media.rules import MediaRules
from models.student import Student
from schemas.attributes import Catalogue
from schemas.errors import BundleError, ConfigurationError
from topology.extractors import make_extractors, makes_text
from topology.settings import Settings

_FRAMES = 8


def media_rules(settings: Settings) -> MediaRules:
    """Return what may be fetched.

    Raises:
        ConfigurationError: a rule is malformed.

    """
    rules = [rule.strip() for rule in settings.media_allow.split(",") if rule.strip()]
    return MediaRules(rules, private=settings.media_private)


def make_fetcher(settings: Settings) -> MediaFetcher:
    """Return what fetches media.

    Raises:
        ConfigurationError: a rule is malformed, or there is no folder for copies.

    """
    return MediaFetcher(
        media_rules(settings),
        FetchLimits(settings.media_max_mb * 2**20, settings.media_fetch_s, settings.media_fetches),
        ObjectStores(settings.media_endpoint, settings.media_region, settings.media_fetch_s),
        Path(settings.media_scratch) if settings.media_scratch else None,
    )


def make_pool(settings: Settings) -> DecodePool:
    """Return the processes that decode.

    Raises:
        ConfigurationError: PyAV is not installed.

    """
    if find_spec("av") is None:
        raise ConfigurationError("av is not installed; looking at videos needs vibestream[media]")
    limits = DecodeLimits(
        settings.media_memory_mb, settings.media_decode_s, settings.media_max_pixels, settings.media_max_s
    )
    return DecodePool(settings.media_decoders, limits)


def video_terms(settings: Settings) -> VideoTerms:
    """Return how Gemini sees videos."""
    return VideoTerms(
        settings.gemini_video_fps,
        settings.gemini_video_resolution,
        settings.gemini_video_s,
        upload_s=settings.gemini_timeout_s,
    )


def make_clips(settings: Settings) -> Clips | None:
    """Return what brings videos to the LLM; None where it may not see them, or can't.

    Raises:
        ConfigurationError: nothing may be fetched, a rule is malformed, or PyAV is not installed.

    """
    presumed = make_presumed_clips(settings) if settings.llm == "gemini" else None
    if presumed is None:
        return None
    return Clips(make_fetcher(settings), make_pool(settings), presumed.direct, presumed.terms)


def make_presumed_clips(settings: Settings) -> PresumedClips | None:
    """Return which videos Gemini would be shown; None where it may not see them.

    Raises:
        ConfigurationError: nothing may be fetched, or a rule is malformed.

    """
    if not settings.gemini_video:
        return None
    rules = [rule.strip() for rule in settings.gemini_video_uris.split(",") if rule.strip()]
    presumed = PresumedClips(media_rules(settings), MediaRules(rules), video_terms(settings))
    if not (presumed.allow.any or presumed.direct.any):
        raise ConfigurationError(
            "VIBESTREAM_GEMINI_VIDEO is true and VIBESTREAM_MEDIA_ALLOW empty: list what may be fetched and sent"
        )
    return presumed


def make_looker(settings: Settings, student: Student) -> Looker:
    """Return what looks at videos for `student`.

    Raises:
        ConfigurationError: nothing may be fetched, something is not installed, an extractor can't be had, or nothing
            would be done with videos.
        BundleError: the frame encoder is missing, damaged, or another one than the student was distilled with.

    """
    if not media_rules(settings).any:
        raise ConfigurationError("VIBESTREAM_MEDIA_ALLOW is empty: no video may be looked at; list what may be fetched")
    pool = make_pool(settings)
    if not (student.frames or student.sound or makes_text(settings)):
        raise ConfigurationError(
            f"student {student.version.name} {student.version.version} reads text only and no text is made of videos:"
            " there is nothing to look for; distil with --media or set VIBESTREAM_MEDIA_EXTRACTORS, and see"
            " docs/media.md"
        )
    encoder = None
    if student.frames:
        if not settings.frame_encoder:
            raise ConfigurationError(
                f"student {student.version.name} {student.version.version} sees frames by the encoder"
                f" {student.frames.encoder}: name its folder with VIBESTREAM_FRAME_ENCODER"
            )
        encoder = FrameEncoder.load(Path(settings.frame_encoder), settings.provider)
        check_encoder(student, encoder)
    extractors = make_extractors(settings)
    taken = plan(settings, student, encoder, extractors.kinds)
    return Looker(make_fetcher(settings), pool, taken, encoder, extractors)


def plan(
    settings: Settings, student: Student | None, encoder: FrameEncoder | None, kinds: Collection[Kind] = ()
) -> Plan:
    """Return what is taken from each video, of which text of these kinds is made."""
    size, resize = (encoder.manifest.size, encoder.manifest.resize) if encoder else (32, 32)
    reads = "on_screen" in kinds
    distilled = student.frames.count if student and student.frames else _FRAMES if encoder or reads else 0
    return Plan(
        frames=settings.media_frames or distilled,
        size=size,
        resize=resize,
        sampling=settings.media_sampling,
        sound_s=student.sound.seconds if student and student.sound else 0.0,
        whole=PIXELS if reads else 0,
        speech_s=settings.media_speech_s if "heard" in kinds else 0.0,
    )


def check_encoder(student: Student, encoder: FrameEncoder | None) -> None:
    """Check that `student` was distilled with the vectors of `encoder`.

    Raises:
        BundleError: it was not.

    """
    wanted = student.frames
    if wanted and (encoder is None or encoder.manifest.sha256 != wanted.sha256):
        has = f"{encoder.manifest.name} ({encoder.manifest.sha256[:12]})" if encoder else "none"
        raise BundleError(
            f"student {student.version.name} {student.version.version} sees frames by the encoder {wanted.encoder}"
            f" ({wanted.sha256[:12]}), and this one is {has}; set VIBESTREAM_FRAME_ENCODER to that one"
        )


def load_for(looker: Looker, path: Path, catalogue: Catalogue, settings: Settings) -> Student:
    """Load a student that may take over while the looker works.

    Raises:
        BundleError: as `Student.load`, or it needs another frame encoder.

    """
    student = Student.load(path, catalogue, settings.provider)
    try:
        check_encoder(student, looker.encoder)
    except BundleError:
        student.close()
        raise
    return student
