"""Who makes text of videos, as the settings name them."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, get_args

from models.media.extract import Extractor, Extractors, Kind
from models.media.on_screen import OnScreenText
from schemas.errors import ConfigurationError
from topology.settings import Settings, variable

_SETTING = variable("media_extractors")


def extractor_names(settings: Settings) -> list[str]:
    """Return what VIBESTREAM_MEDIA_EXTRACTORS lists."""
    return [name.strip() for name in settings.media_extractors.split(",") if name.strip()]


def makes_text(settings: Settings) -> bool:
    """Tell whether text is made of videos here."""
    return bool(extractor_names(settings))


def make_extractors(settings: Settings) -> Extractors:
    """Start the extractors: `ocr`, and those that `module:factory` makes.

    Raises:
        ConfigurationError: one can't be had, is no extractor, or makes what another makes already.

    """
    made: list[Extractor] = []
    for name in extractor_names(settings):
        one = OnScreenText.load(settings.media_extractions) if name == "ocr" else _of_operator(name)
        if one.kind in (other.kind for other in made):
            raise ConfigurationError(f"{_SETTING}={settings.media_extractors}: two make text that is {one.kind}")
        made.append(one)
    return Extractors(made, settings.media_extract_s, settings.media_extractions)


def _of_operator(name: str) -> Extractor:
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        raise ConfigurationError(f"{_SETTING}: {name!r} is neither ocr nor module:factory")
    try:
        make: Callable[[], Any] = getattr(import_module(module), factory)
        one = make()
    except Exception as error:  # it is the operator's code, and its faults are theirs to mend
        raise ConfigurationError(f"{_SETTING}: {name} gives no extractor: {type(error).__name__}: {error}") from error
    kind = getattr(one, "kind", None)
    if kind not in get_args(Kind):
        raise ConfigurationError(f"{_SETTING}: what {name} makes has kind {kind!r}; let it be on_screen or heard")
    for method in ("extract", "close"):
        if not inspect.iscoroutinefunction(getattr(one, method, None)):
            raise ConfigurationError(f"{_SETTING}: what {name} makes has no async method {method}")
    return one
