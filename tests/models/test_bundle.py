import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import onnx
import pytest

from models.bundle import MANIFEST, MODEL, TOKENIZER, default_bundle, load_bundle, load_manifest
from schemas.attributes import load_catalogue
from schemas.errors import BundleError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_bundle(), tmp_path / "bundle"))


def rewrite(bundle: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_the_shipped_bundle_verifies_and_covers_the_shipped_catalogue():
    manifest = load_bundle(default_bundle()).manifest
    assert tuple((a.id, a.version) for a in manifest.attributes) == tuple(
        (a.id, a.version) for a in load_catalogue().attributes
    )
    assert manifest.certified
    assert manifest.certificate is not None
    assert set(manifest.certificate.attributes) == {one.id for one in manifest.attributes if one.certified}
    assert manifest.training.licence == "Apache-2.0"


def test_its_folder_is_named_after_student_and_version():
    manifest = load_bundle(default_bundle()).manifest
    assert default_bundle().parts[-2:] == (manifest.name, str(manifest.version))


@pytest.mark.parametrize("name", [MODEL, TOKENIZER])
def test_a_tampered_file_is_refused_with_both_checksums(copy: Path, name: str):
    path = copy / name
    original = path.read_bytes()
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(BundleError) as error:
        load_bundle(copy)
    for part in (name, sha256(original).hexdigest(), sha256(path.read_bytes()).hexdigest()):
        assert part in str(error.value)


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, MANIFEST])
def test_a_missing_file_is_named(copy: Path, name: str):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(version=2048),
        lambda m: m.pop("golden"),
        lambda m: m["files"].update({"../../secret": "0"}),
        lambda m: m["attributes"][0].update(lo=0.9, hi=0.1),
    ],
)
def test_a_malformed_manifest_is_refused(copy: Path, change: Callable[[dict[str, object]], object]):
    rewrite(copy, change)
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(copy)


def test_a_model_that_points_to_other_files_is_refused(copy: Path):
    onnx.save(onnx.load(copy / MODEL), copy / MODEL, save_as_external_data=True, location="weights.bin")
    digest = sha256((copy / MODEL).read_bytes()).hexdigest()
    rewrite(copy, lambda m: m["files"].update({MODEL: digest}))
    with pytest.raises(BundleError, match="other files"):
        load_bundle(copy)


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, MANIFEST])
@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: b"\xff" * len(content)],
    ids=["empty", "cut short", "overwritten"],
)
def test_a_damaged_file_is_refused_in_one_line_and_repaired_it_loads(
    copy: Path, name: str, damage: Callable[[bytes], bytes]
):
    path = copy / name
    original = path.read_bytes()
    path.write_bytes(damage(original))
    with pytest.raises(BundleError, match=name) as error:
        load_bundle(copy)
    assert "\n" not in str(error.value)

    path.write_bytes(original)
    assert replace(load_bundle(copy), path=default_bundle()) == load_bundle(default_bundle())


def test_a_byte_that_is_no_utf8_in_a_text_of_the_manifest_is_refused(copy: Path):
    path = copy / MANIFEST
    path.write_bytes(path.read_bytes().replace(b"Apache", b"Ap\xffche", 1))
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(copy)


def test_the_manifest_alone_is_read_from_a_bundle_whose_model_is_damaged(copy: Path):
    (copy / MODEL).write_bytes(b"")
    assert load_manifest(copy) == load_manifest(default_bundle())
