"""The attribute catalogue: the one definition of what is annotated.

Student heads, LLM rubric and answer schema, table columns and the words of restricted retrieval all come from it.
"""

import tomllib
from collections.abc import Iterable
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from schemas.errors import CatalogueError

AttributeId = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,62}$", description="also a column name")]
Text = Annotated[str, Meta(min_length=1)]
Target = Annotated[float, Meta(gt=0.0, lt=1.0)]


class Attribute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attribute, defined so that a rater could decide it.

    `name` is the word people and LLMs see. `policy` attributes must be finally absent before a video is served.
    `labels` names, per public data set, the labels that count as this attribute when a student is trained on it.
    """

    id: AttributeId
    name: Text
    version: Annotated[int, Meta(ge=1)]
    definition: Text
    includes: Annotated[tuple[Text, ...], Meta(min_length=1)]
    excludes: tuple[Text, ...] = ()
    positive_examples: Annotated[tuple[Text, ...], Meta(min_length=1)]
    negative_examples: tuple[Text, ...] = ()
    target_precision: Target
    target_recall: Target
    policy: bool = False
    labels: dict[str, tuple[Text, ...]] = {}


class Catalogue(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """All attributes, in the order in which models, tables and prompts list them.

    `retired` names what once was one: records that still have it are taken, without it.
    """

    attributes: Annotated[tuple[Attribute, ...], Meta(min_length=1)]
    retired: tuple[AttributeId, ...] = ()

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Attribute ids in catalogue order."""
        return tuple(attribute.id for attribute in self.attributes)

    def unknown(self, attribute_ids: Iterable[str]) -> list[str]:
        """Return, sorted, those that neither are nor ever were attributes."""
        return sorted(set(attribute_ids) - self._ever)

    @cached_property
    def _ever(self) -> frozenset[str]:
        return frozenset((*self.ids, *self.retired))

    @cached_property
    def policy_ids(self) -> tuple[str, ...]:
        """Ids of the attributes that must be finally absent before a video is served."""
        return tuple(attribute.id for attribute in self.attributes if attribute.policy)

    def __getitem__(self, attribute_id: str) -> Attribute:
        """Return the attribute with this id; KeyError if there is none."""
        return self._by_id[attribute_id]

    @cached_property
    def _by_id(self) -> dict[str, Attribute]:
        return {attribute.id: attribute for attribute in self.attributes}


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read a catalogue from TOML; without a path, the one that ships with vibestream.

    Raises:
        CatalogueError: the file can't be read, a field is wrong, two attributes share an id, or one is retired too.

    """
    source = path or files("schemas") / "catalogue.toml"
    try:
        raw = tomllib.loads(source.read_text(encoding="utf-8"))
        catalogue = msgspec.convert(raw, Catalogue)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise CatalogueError(f"attribute catalogue {source}: {error}") from error
    duplicates = sorted({i for i in catalogue.ids if catalogue.ids.count(i) > 1})
    if duplicates:
        raise CatalogueError(
            f"attribute catalogue {source}: id used twice: {', '.join(duplicates)}; ids must be unique"
        )
    both = sorted(set(catalogue.ids).intersection(catalogue.retired))
    if both:
        raise CatalogueError(f"attribute catalogue {source}: {', '.join(both)} is both retired and an attribute")
    return catalogue
