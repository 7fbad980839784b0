"""Whether a student may serve: alone, in this store, and beside those that served before."""

import asyncio
from pathlib import Path

from models.bundle import load_bundle
from models.registry import Registry
from models.student import Student
from models.successor import check_space
from schemas.attributes import load_catalogue
from streams.attribute_store import AttributeStore
from topology.attribute_store import database
from topology.bundle import bundle_path
from topology.settings import Settings, with_changes


async def check_promotion(settings: Settings, registry: Registry, version: int) -> None:
    """Check that `version` may serve: its files, golden outputs and attributes, the table, the space of its vectors.

    Its vectors must lie where those of the student that serves do; before anybody was promoted, that is the one of the
    settings, if the table has rows.

    Raises:
        BundleError: it may not; or the student that serves can't be loaded to compare with.
        ConfigurationError: catalogue or table don't fit.
        StoreUnavailable: the table can't be read.

    """
    manifest = await asyncio.to_thread(registry.manifest, version)
    path = await asyncio.to_thread(_serving, settings, registry, manifest.dim)
    candidate = await asyncio.to_thread(_load, settings, registry.path(version))
    try:
        if path is not None and path != registry.path(version):
            serving = await asyncio.to_thread(_load, settings, path)
            try:
                await check_space(candidate, serving, manifest)
            finally:
                serving.close()
    finally:
        candidate.close()


def check_loads(settings: Settings, registry: Registry, version: int) -> None:
    """Check files, golden outputs and attributes of `version`; enough for a shadow, and for who served before.

    Raises:
        BundleError: they don't hold.

    """
    registry.manifest(version)
    _load(settings, registry.path(version)).close()


def describe(registry: Registry, version: int) -> tuple[str, ...]:
    """Return dimension, attributes, macro F1 and certificate of a version, as text; its checksums are checked.

    Raises:
        BundleError: they don't hold, or the manifest is wrong.

    """
    manifest = registry.manifest(version)
    load_bundle(registry.path(version))
    return (
        str(manifest.dim),
        str(len(manifest.attributes)),
        f"{manifest.metrics.macro_f1:.3f}",
        "yes" if manifest.certified else "no",
    )


def _serving(settings: Settings, registry: Registry, dim: int) -> Path | None:
    """Return the bundle whose vectors are in use; None if there are none yet. Refuses a table of another dimension."""
    catalogue = load_catalogue(settings.catalogue_path)
    store = AttributeStore.open_existing(database(settings), catalogue, dim, settings.store_shards)
    history = registry.history()
    if history:
        return registry.path(history[0])
    rows = any(batch.num_rows for batch in store.read(["video_id"]))
    return bundle_path(with_changes(settings, students="")) if rows else None


def _load(settings: Settings, path: Path) -> Student:
    return Student.load(path, load_catalogue(settings.catalogue_path), settings.provider)
