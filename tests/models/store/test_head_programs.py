"""Heads that `torch.export` wrote: tried out, stored, verified on every load, and run on images of any size."""

import json

import numpy as np
import pytest
import torch
from exported_heads import Changing, Classes, Drawing, Labels, Shifted, write_bundle
from head_packages import lesion_contract, tissue_contract

from recond_models import loading, registry
from recond_models.heads.contract import HeadClass, HeadContract, HeadGroup
from recond_models.heads.exported import SliceTooLargeError
from recond_models.heads.framing import Framing, frame, frame_slice
from recond_models.store.add import AddRequest, add_model
from recond_models.store.errors import (
    DamagedModelError,
    GoldenMismatchError,
    HashMismatchError,
    ManifestError,
    ProgramRefusedError,
    StoreError,
    WrongKeysError,
)

CLASSES = HeadContract(
    "classification",
    (
        HeadGroup("contrast", (HeadClass("T1"), HeadClass("T2"), HeadClass("FLAIR"))),
        HeadGroup("plane", (HeadClass("axial"), HeadClass("coronal"))),
    ),
    slices=3,
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def add(folder, **options):
    return add_model(AddRequest(folder, **options))


def plain(rows: int, columns: int) -> Framing:
    return Framing((rows, columns), (rows, columns), (0, 0), (rows, columns), 1.0)


def test_a_segmentation_runs_on_every_size_that_heads_see(place, tmp_path):
    folder = write_bundle(
        tmp_path / "bundle",
        Labels(5, 3),
        tissue_contract(),
        name="mine",
        version="3",
        licence="MIT",
        description="By hand.",
    )
    (folder / "card.md").write_text("# Trained on marbles\n")
    added = add(folder)
    assert (added.to_json()["name"], added.to_json()["version"]) == ("mine", "3")
    info = registry.find_head("mine")
    assert (info.family, info.licence, info.description, info.head) == (
        "exported",
        "MIT",
        "By hand.",
        tissue_contract(),
    )
    stored = place / "mine"
    assert {file.name for file in stored.iterdir()} == {
        *("manifest.json", "weights.safetensors", "golden.safetensors", "card.md")
    }
    card = (stored / "card.md").read_text()
    assert "Trained on marbles" in card
    assert "Rows: 64 to 640, step 32" in card
    head = loading.load_head("mine")
    for rows, columns in ((32, 32), (96, 160), (40, 72)):  # the last is padded, and cut back
        block = torch.zeros(6, rows, columns)
        block[:, 4:-4, 4:-4] = 0.5
        block[:, 8:12, 8:12] = 1.2
        labelled = head.label(block, plain(rows, columns))
        assert labelled.labels.shape == (2, rows, columns)
        assert labelled.labels[0, 10, 10] == 2
        assert labelled.labels[0, 5, 5] == 1
        assert labelled.labels[0, 0, 0] == 0
    # A slice has the answer that it has alone, and another name and place change nothing.
    volume = torch.rand(8, 64, 64)
    together = head.label(volume, plain(64, 64))
    alone = head.label(volume[1:6], plain(64, 64))
    assert torch.equal(together.confidence[1:2], alone.confidence)
    add(stored, name="again")
    assert torch.equal(loading.load_head("again").label(volume, plain(64, 64)).labels, together.labels)


def test_lesions_with_fixed_sizes_are_padded_and_what_is_larger_is_refused(place, tmp_path):
    folder = write_bundle(tmp_path / "spots", Changing(5, 2), lesion_contract(), size=(96, 128), temperature=2.0)
    add(folder)
    assert json.loads((place / "spots" / "manifest.json").read_text())["architecture"]["temperature"] == 2.0
    head = loading.load_head("spots")
    volume = np.zeros((7, 60, 90), np.float32)
    volume[:, 20:40, 20:60] = 100
    framing = frame(volume, (4.0, 1.0, 1.0))
    first = head.label(torch.from_numpy(volume), framing)
    assert first.labels[1, 30, 30] == 1
    assert torch.equal(
        head.label(torch.from_numpy(volume), framing).labels, first.labels
    )  # it changes only its own copy
    with pytest.raises(SliceTooLargeError, match="160 x 96 pixels, and its program takes 96 x 128"):
        head.label(torch.rand(5, 160, 96), plain(160, 96))


def test_a_classification(place, tmp_path):
    add(write_bundle(tmp_path / "tells", Classes(3, 5), CLASSES, temperatures={"plane": 2.0}))
    head = loading.load_head("tells")
    images = torch.rand(5, 70, 50)
    probabilities = head.classify(images, frame_slice(images.numpy()))
    assert probabilities.shape == (3, 5)
    assert torch.allclose(probabilities[:, :3].sum(dim=1), torch.ones(3))
    assert torch.allclose(probabilities[:, 3:].sum(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("network", "contract", "error", "message"),
    [
        (Labels(5, 4), tissue_contract(), WrongKeysError, "tells 4 classes apart, its contract 3"),
        (Classes(3, 4), CLASSES, WrongKeysError, "tells 4 classes apart, the contract 5"),
        (Labels(5, 3), CLASSES, ProgramRefusedError, "has to take float32"),
        (Labels(3, 5), CLASSES, ProgramRefusedError, r"returns logits \(batch, classes\)"),
        (Classes(5, 3), tissue_contract(), ProgramRefusedError, r"returns logits \(batch, classes, rows, columns\)"),
        (Shifted(5, 3), tissue_contract(), GoldenMismatchError, "not finite"),
        (Drawing(5, 3), tissue_contract(), ProgramRefusedError, "rand_like"),
    ],
    ids=["classes", "groups", "slices", "pixels", "no pixels", "not finite", "random"],
)
def test_programs_that_are_no_such_head_are_refused(place, tmp_path, network, contract, error, message):
    slices = 5 if isinstance(network, Classes) and contract is not CLASSES else contract.slices
    if isinstance(network, Labels) and network.down.in_channels != slices:
        slices = network.down.in_channels
    written = HeadContract(contract.task, contract.groups, slices=slices)
    folder = write_bundle(tmp_path / "odd", network, written, size=(160, 160))
    (folder / "manifest.json").write_text(json.dumps({"head": contract.to_json()}))
    with pytest.raises(error, match=message):
        add(folder)
    assert not (place / "odd").exists()


def test_manifests_of_bundles_are_checked(place, tmp_path):
    folder = write_bundle(tmp_path / "odd", Labels(5, 3), tissue_contract(), size=(64, 64))
    with pytest.raises(HashMismatchError):
        add(folder, sha256="0" * 64)
    with pytest.raises(StoreError, match="brings its own"):
        add(folder, licence="MIT")
    for text, message in (
        ("{", "cannot be read"),
        ('{"name": "x"}', "needs the field head"),
        (json.dumps({"head": tissue_contract().to_json(), "colour": 3}), "colour"),
        (json.dumps({"head": {"task": "poetry", "groups": []}}), "task"),
        (json.dumps({"head": tissue_contract().to_json(), "version": 3}), "no text"),
    ):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(ManifestError, match=message):
            add(folder)


def test_a_changed_file_is_not_run(place, tmp_path):
    add(write_bundle(tmp_path / "mine", Labels(5, 3), tissue_contract(), size=(64, 64)))
    weights = place / "mine" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(DamagedModelError, match="SHA-256"):
        loading.load_head("mine")
