"""Which student bundle the settings name."""

from pathlib import Path

from models.bundle import default_bundle, load_manifest
from models.registry import Registry
from schemas.errors import ConfigurationError
from topology.settings import Settings


def bundle_path(settings: Settings) -> Path:
    """Return the folder of the student bundle: the registry's current one, the one that is set, or the one that ships.

    Raises:
        ConfigurationError: registry and bundle are both set, or nobody was promoted in the registry.

    """
    if settings.students and settings.bundle:
        raise ConfigurationError(
            f"VIBESTREAM_STUDENTS={settings.students} and VIBESTREAM_BUNDLE={settings.bundle} are both set; keep one"
        )
    if settings.students:
        registry = Registry(Path(settings.students))
        return registry.path(registry.current())
    return Path(settings.bundle) if settings.bundle else default_bundle()


def student_dim(settings: Settings) -> int:
    """Return the dimension of the student's embeddings."""
    return load_manifest(bundle_path(settings)).dim
