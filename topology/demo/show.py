"""Examples that a person understands: annotations with their reasons, and lists with their lanes."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from schemas.annotation import Annotation, AttributeScore
from schemas.candidates import SessionCandidates
from schemas.events import VideoUpload, WatchEvent

_PLACES = 8


def show_annotations(console: Console, uploads: Mapping[str, VideoUpload], annotations: Sequence[Annotation]) -> None:
    """Print what was decided about some videos, and who decided it."""
    table = Table(title="Annotations", title_justify="left", show_lines=True)
    for column in ("video", "has", "decided by", "still open"):
        table.add_column(column, overflow="fold")
    for annotation in annotations:
        present = [_present(name, score) for name, score in annotation.attributes.items() if score.label]
        still_open = [name for name, score in annotation.attributes.items() if score.label is None]
        student = annotation.student
        who = f"student {student.name}@{student.version}" if student else "nobody"
        if annotation.annotator:
            asked = sum(score.source == "llm" for score in annotation.attributes.values())
            who += f", then {annotation.annotator.model} for {asked} uncertain"
        title = uploads[annotation.video_id].title
        table.add_row(title, "\n".join(present) or "none of them", who, ", ".join(still_open) or "-")
    console.print(table)


def _present(name: str, score: AttributeScore) -> str:
    return f"{name} ({'LLM, ' if score.source == 'llm' else ''}p {score.p:.2f})"


def show_session(
    console: Console,
    uploads: Mapping[str, VideoUpload],
    annotations: Mapping[str, Annotation],
    watches: Sequence[WatchEvent],
    made: SessionCandidates,
) -> None:
    """Print what a user watched, and the list that came out."""
    seen = Table(title=f"Session {made.session_id}: watched", title_justify="left")
    for column in ("video", "watched", "vibe"):
        seen.add_column(column, overflow="fold")
    for watch in watches[-_PLACES:]:
        share = f"{min(watch.watch_ms / watch.duration_ms, 9.99):.0%}" if watch.duration_ms else "?"
        liked = " liked" if watch.liked else ""
        seen.add_row(_title(uploads, watch.video_id), share + liked, _vibe(annotations.get(watch.video_id)))
    console.print(seen)
    quotas = ", ".join(f"{name} {places}" for name, places in sorted(made.quotas.items(), key=lambda q: -q[1]))
    removed = ", ".join(f"{reason} {count}" for reason, count in made.removed.items())
    listed = Table(
        title=f"Session {made.session_id}: first {_PLACES} of {len(made.candidates)} candidates"
        f" (places: {quotas or 'no history yet'}; removed: {removed or 'none'})",
        title_justify="left",
    )
    for column in ("video", "lane", "vibe"):
        listed.add_column(column, overflow="fold")
    for candidate in made.candidates[:_PLACES]:
        lane = f"{candidate.lane}: {candidate.attribute}" if candidate.attribute else candidate.lane
        listed.add_row(_title(uploads, candidate.video_id), lane, _vibe(annotations.get(candidate.video_id)))
    console.print(listed)


def _title(uploads: Mapping[str, VideoUpload], video_id: str) -> str:
    return uploads[video_id].title if video_id in uploads else video_id


def _vibe(annotation: Annotation | None) -> str:
    if annotation is None:
        return "?"
    return ", ".join(name for name, score in annotation.attributes.items() if score.label) or "-"
