"""What is written beside the weights, and that nothing else is taken for it."""

import dataclasses
import json

import pytest

from recond_models.contract import Contract
from recond_models.store.errors import ManifestError, StoreError, UnsafeNameError
from recond_models.store.manifest import Manifest, check_name

MANIFEST = Manifest(
    name="varnet-knee",
    version="2",
    description="A network.",
    reference="Somebody 2020",
    licence="Apache-2.0",
    source="file.pt",
    architecture={"family": "varnet", "cascades": 2},
    weights_sha256="a" * 64,
    golden_sha256="0" * 64,
    golden_tolerance=1e-3,
    precision="float32",
    fits_samples=False,
    contract=Contract(("uniform",), (2.0, 8.0), anatomy="knee"),
    parameters=1234,
)


def test_json_keeps_everything():
    text = MANIFEST.to_json()
    assert json.loads(text)["manifest"] == 1
    assert Manifest.from_json(text) == MANIFEST
    assert Manifest.from_json(text).family == "varnet"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest": 2}, "format 2, this version of recond reads 1"),
        ({"colour": "red"}, r"unknown fields \['colour'\]"),
        ({"version": 2}, "version is 2"),
        ({"fits_samples": 1}, "fits_samples is 1"),
        ({"parameters": True}, "parameters is True"),
        ({"parameters": 0}, "parameters is 0"),
        ({"weights_sha256": "A" * 64}, "weights_sha256 is 'AAA"),
        ({"golden_tolerance": 1.5}, "golden_tolerance is 1.5"),
        ({"precision": "float8"}, "precision is 'float8'"),
        ({"architecture": {"cascades": 2}}, "names no family"),
        ({"architecture": []}, "architecture is"),
        ({"contract": {}}, "contract cannot be"),
        ({"version": "../1"}, "cannot be a version"),
    ],
)
def test_manifests_that_cannot_be(changes, message):
    data = json.loads(MANIFEST.to_json()) | changes
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(json.dumps(data))


def test_missing_fields_and_other_files():
    data = json.loads(MANIFEST.to_json())
    del data["licence"]
    with pytest.raises(ManifestError, match=r"lacks the fields \['licence'\]"):
        Manifest.from_json(json.dumps(data))
    for text in ("", "[]", "{", "null", '"text"'):
        with pytest.raises(ManifestError):
            Manifest.from_json(text)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "-rf", ".hidden", "Upper", "a b", "a" * 65, "ä", "a\n", "a\0"]
)
def test_unsafe_names(name):
    with pytest.raises(UnsafeNameError, match=r"cannot be the name of a model.*--as"):
        check_name(name)
    with pytest.raises(StoreError):
        dataclasses.replace(MANIFEST, name=name)


@pytest.mark.parametrize("name", ["a", "varnet-knee_2.1", "0", "a" * 64])
def test_safe_names(name):
    check_name(name)


def test_a_manifest_belongs_to_its_folder(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "manifest.json").write_text(MANIFEST.to_json())
    with pytest.raises(ManifestError, match="rename one of them"):
        Manifest.read(folder)
    folder = folder.rename(tmp_path / MANIFEST.name)
    assert Manifest.read(folder) == MANIFEST
    (folder / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="cannot be read"):
        Manifest.read(folder)
    (folder / "manifest.json").write_text(" " * (1 << 20) + MANIFEST.to_json())
    with pytest.raises(ManifestError, match="more than"):
        Manifest.read(folder)
