"""Heads in the folder of models: listed apart from models, verified on every load, added from a folder."""

import json

import pytest
import torch
from head_packages import brightness_network, lesion_contract, tissue_contract, write_brightness_head

from recond_models import loading, registry
from recond_models.heads.framing import Framing
from recond_models.model import UnknownModelError
from recond_models.store.add import AddRequest, add_model
from recond_models.store.errors import DamagedModelError, GoldenMismatchError, NameTakenError, WrongKeysError
from recond_models.store.heads import write_head
from recond_models.store.package import Description

FRAMING = Framing((32, 32), (32, 32), (0, 0), (32, 32), 1.0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_head_is_listed_apart_and_loads(place):
    write_brightness_head(place, "bright", tissue_contract())
    info = registry.find_head("bright")
    assert (info.kind, info.head, info.promoted) == ("head", tissue_contract(), True)
    assert "bright" in {each.name for each in registry.heads()}
    assert "bright" not in {each.name for each in registry.available()}
    with pytest.raises(UnknownModelError, match="no model 'bright'"):
        registry.find("bright")
    with pytest.raises(UnknownModelError, match="no head 'tv'"):
        registry.find_head("tv")
    labels = loading.load_head("bright").label(torch.full((5, 32, 32), 0.5), FRAMING).labels
    assert labels.eq(1).all()


def test_changed_weights_and_other_answers_are_refused(place):
    folder = write_brightness_head(place, "bright", tissue_contract()).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = folder / "weights.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(DamagedModelError, match="SHA-256"):
        loading.load_head("bright")
    weights.write_bytes(sound)
    manifest["architecture"]["temperature"] = 15.0
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GoldenMismatchError, match="answers otherwise"):
        loading.load_head("bright")


def test_a_folder_is_added_under_another_name_and_keeps_its_contract(place, tmp_path):
    contract = lesion_contract(contrasts=("FLAIR",), detection={"extent": 0.4, "seed": 0.5})
    folder = write_brightness_head(tmp_path / "elsewhere", "spots", contract).folder
    added = add_model(AddRequest(folder, name="mine"))
    assert added.to_json()["name"] == "mine"
    assert registry.find_head("mine").head == contract
    with pytest.raises(NameTakenError):
        add_model(AddRequest(folder, name="mine"))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"family": "slice-unet", "slices": 5, "classes": 3, "widths": [8, 8], "fine": 8}, "size mismatch"),
        ({"family": "slice-unet", "slices": 5, "classes": 10_000}, "whole number"),
        ({"family": "crystal-ball"}, "no family"),
        ({"family": "slice-unet", "colour": 3}, "architecture"),
    ],
)
def test_weights_of_another_network_are_refused(place, architecture, message):
    described = Description("odd", "1", "", "", "", "", "")
    state = brightness_network(3).state_dict()
    with pytest.raises(WrongKeysError, match=message):
        write_head(place, described, architecture, state, tissue_contract())
    assert not (place / "odd").exists()


def test_a_contract_of_other_classes_is_refused(place):
    network = brightness_network(3)
    architecture = {"family": "slice-unet", **network.architecture()}
    with pytest.raises(WrongKeysError, match="classes"):
        write_head(
            place, Description("odd", "1", "", "", "", "", ""), architecture, network.state_dict(), lesion_contract()
        )
