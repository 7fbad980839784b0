"""One upload: its text, each score against its band, who decided and why; and finding it."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment

from models.bundle import BundleAttribute, load_manifest
from models.registry import Registry
from schemas.annotation import AttributeScore, MediaStatus, StudentVersion
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import BundleError
from streams.attribute_store import AttributeStore
from topology.attribute_store import database
from topology.bundle import bundle_path, student_dim
from topology.settings import Settings
from topology.ui.recent import Recent

_SHOWN = 50
_WHY = {
    "accept": "the student is sure that it is",
    "reject": "the student is sure that it is not",
    "uncertain": "between the two bounds: a question for the LLM",
}
_MEDIA: dict[MediaStatus, str] = {
    "pending": "judged by its text so far; another annotation follows",
    "used": "scores rest on it, too",
    "off": "nobody looks at videos here",
    "unused": "the student only reads",
    "refused": "not on the list of what may be fetched",
    "unavailable": "missing or forbidden, or its host is away or slow",
    "too_large": "over a limit of bytes, pixels, seconds or memory",
    "unreadable": "no pictures that can be decoded, or not in time",
}


class VideoPages:
    """Views of the latest annotations, and of any video."""

    def __init__(self, settings: Settings, templates: Environment, recent: Recent) -> None:
        self._settings = settings
        self._list = templates.get_template("videos.html")
        self._one = templates.get_template("video.html")
        self._recent = recent
        self._catalogue = load_catalogue(settings.catalogue_path)
        self._bands: dict[StudentVersion, dict[str, BundleAttribute]] = {}

    async def index(self, request: web.Request) -> web.Response:
        """Show the latest, or those with some words."""
        words = request.query.get("q", "")
        found = await asyncio.to_thread(self._recent.latest, _SHOWN, words)
        return web.Response(
            text=self._list.render(view="videos", words=words, found=found, most=_SHOWN), content_type="text/html"
        )

    async def one(self, request: web.Request) -> web.Response:
        """Show a video: from the topics if it came lately, otherwise its row of the store."""
        video_id = request.query.get("id", "")
        history, upload = self._recent.annotations(video_id), self._recent.upload(video_id)
        row = None if history else await asyncio.to_thread(self._stored, video_id)
        if row is None and not history and upload is None:
            raise web.HTTPNotFound(text=f"no video {video_id!r} came lately, and the store has none")
        latest = history[-1] if history else None
        bands = {} if latest is None else await asyncio.to_thread(self._bands_of, latest.student)
        scores = _of_row(row, self._catalogue) if latest is None else latest.attributes
        text = self._one.render(
            view="videos",
            video_id=video_id,
            upload=upload,
            history=history,
            latest=latest,
            row=row,
            scores=_ordered(scores, bands, self._catalogue),
            reasons=_WHY,
            media_says=_MEDIA,
        )
        return web.Response(text=text, content_type="text/html")

    def _stored(self, video_id: str) -> dict[str, Any] | None:
        store = AttributeStore.open_existing(
            database(self._settings), self._catalogue, student_dim(self._settings), self._settings.store_shards
        )
        return store.find(video_id)

    def _bands_of(self, student: StudentVersion | None) -> dict[str, BundleAttribute]:
        """Return the bands of the bundle that scored; none if it is not here any more."""
        if student is None:
            return {}
        if student not in self._bands:
            try:
                if self._settings.students:
                    manifest = Registry(Path(self._settings.students)).manifest(student.version)
                else:
                    manifest = load_manifest(bundle_path(self._settings))
            except BundleError:
                return {}
            if (manifest.name, manifest.version) != (student.name, student.version):
                return {}
            self._bands[student] = {one.id: one for one in manifest.attributes}
        return self._bands[student]


def _ordered(
    scores: dict[str, AttributeScore], bands: dict[str, BundleAttribute], catalogue: Catalogue
) -> list[tuple[str, AttributeScore, BundleAttribute | None]]:
    names = {attribute.id: attribute.name for attribute in catalogue.attributes}
    ordered = sorted(scores.items(), key=lambda item: (item[1].label is not True, -item[1].p))
    return [(names.get(name, name), score, bands.get(name)) for name, score in ordered]


def _of_row(row: dict[str, Any] | None, catalogue: Catalogue) -> dict[str, AttributeScore]:
    """Return a row's scores; it does not say in which band they fell, so an open label stands for uncertain."""
    scores: dict[str, AttributeScore] = {}
    for name in catalogue.ids:
        p = None if row is None else row.get(f"p_{name}")
        if row is None or p is None:
            continue
        label: bool | None = row[f"label_{name}"]
        band = "uncertain" if label is None else "accept" if label else "reject"
        scores[name] = AttributeScore(
            p=p,
            band=band,
            label=label,
            source="llm" if row["annotator"] else "student",
            certified=row[f"certified_{name}"],
        )
    return scores
