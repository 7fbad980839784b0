"""The attribute catalogue as it is read from a file."""

from importlib.resources import files
from pathlib import Path

import pytest

from schemas.attributes import load_catalogue
from schemas.errors import CatalogueError

SHIPPED = (files("schemas") / "catalogue.toml").read_text()


def written(folder: Path, text: str) -> Path:
    path = folder / "catalogue.toml"
    path.write_text(text)
    return path


def test_what_was_retired_is_known_and_no_attribute(tmp_path: Path) -> None:
    made = load_catalogue(written(tmp_path, 'retired = ["zesty"]\n' + SHIPPED))
    assert made.ids == load_catalogue().ids
    assert made.unknown(["zesty", "sour", *made.ids]) == ["sour"]
    assert load_catalogue().unknown(["zesty"]) == ["zesty"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('retired = ["eerie"]\n' + SHIPPED, "eerie is both retired and an attribute"),
        (SHIPPED + SHIPPED[SHIPPED.index("[[attributes]]") :], "used twice"),
        ("attributes = []\n", "length >= 1"),
        ("no toml", "catalogue"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_attribute(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CatalogueError, match=says) as raised:
        load_catalogue(path)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="absent"):
        load_catalogue(tmp_path / "absent.toml")
