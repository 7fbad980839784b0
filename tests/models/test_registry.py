"""The registry's folder, and whether two students' vectors can be mixed."""

from pathlib import Path

import pytest

from models.registry import CURRENT, Registry, fingerprint
from models.student import Student
from models.successor import check_space
from schemas.attributes import load_catalogue
from schemas.errors import BundleError
from tests.fakes.bundles import add_version, elsewhere, registry


@pytest.fixture
def three(tmp_path: Path) -> Registry:
    for version in (1, 2, 10):
        (tmp_path / "nano" / str(version)).mkdir(parents=True)
    return Registry(tmp_path / "nano")


def test_versions_are_numbers_and_nothing_else_in_the_folder_is_one(three: Registry):
    (three.root / ".3.draft").mkdir()
    (three.root / "4").write_text("no folder")
    assert three.versions() == [1, 2, 10]


def test_who_was_promoted_serves_and_rollback_goes_back_one_by_one(three: Registry):
    for version in (1, 2, 10):
        three.promote(version)
    assert (three.current(), three.history()) == (10, (10, 2, 1))
    three.rollback()
    assert three.current() == 2
    three.rollback()
    assert three.current() == 1
    with pytest.raises(BundleError, match="nobody to go back to"):
        three.rollback()
    assert three.current() == 1


def test_who_serves_already_is_not_promoted_twice(three: Registry):
    three.promote(1)
    three.promote(2)
    three.promote(2)
    assert three.history() == (2, 1)


def test_the_file_is_readable_by_people_and_no_draft_stays(three: Registry):
    three.promote(1)
    three.promote(2)
    three.set_shadow(10)
    assert (three.root / CURRENT).read_text() == "2\n1\n"
    assert sorted(one.name for one in three.root.iterdir()) == ["1", "10", "2", "CURRENT", "SHADOW"]
    assert Registry(three.root).shadow() == 10
    three.set_shadow(None)
    assert three.shadow() is None


def test_a_registry_where_nobody_was_promoted_says_how(three: Registry):
    with pytest.raises(BundleError, match="student promote"):
        three.current()


@pytest.mark.parametrize("content", ["two\n", "1.5", "\xff"])
def test_a_malformed_current_is_refused_by_its_name(three: Registry, content: str):
    (three.root / CURRENT).write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleError, match=CURRENT):
        three.current()


def test_a_folder_that_is_not_there_says_what_a_registry_is(tmp_path: Path):
    with pytest.raises(BundleError, match="NAME/VERSION"):
        Registry(tmp_path / "none").versions()


def test_a_bundle_in_the_wrong_folder_says_where_it_belongs(tmp_path: Path):
    add_version(tmp_path, 1).rename(tmp_path / "nano" / "2")
    with pytest.raises(BundleError, match="move it to nano/1"):
        Registry(tmp_path / "nano").manifest(2)


def test_a_fingerprint_changes_with_the_files_and_only_then(tmp_path: Path):
    (tmp_path / "model").write_bytes(b"one")
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    (tmp_path / "model").write_bytes(b"other")
    assert fingerprint(tmp_path) != before
    assert fingerprint(tmp_path / "none") == ()


async def test_a_recalibrated_student_keeps_its_vectors_and_another_hidden_layer_does_not(tmp_path: Path):
    found = registry(tmp_path, 2)
    add_version(tmp_path, 3, change=elsewhere)
    students = {version: Student.load(found.path(version), load_catalogue()) for version in (1, 2, 3)}
    try:
        await check_space(students[2], students[1], found.manifest(2))
        with pytest.raises(BundleError, match=r"nano 3 .* nano 1.*lowest cosine.*VIBESTREAM_STORE_URI"):
            await check_space(students[3], students[1], found.manifest(3))
    finally:
        for student in students.values():
            student.close()
