"""The contract of a head: what is refused, and the way through JSON."""

import json

import pytest
from head_packages import lesion_contract, tissue_contract

from recond_models.heads.contract import Code, HeadClass, HeadContract, HeadGroup

GROUP = HeadGroup("plane", (HeadClass("axial"), HeadClass("coronal", Code("81654009", "SCT", "Coronal"))), 0.6)


@pytest.mark.parametrize(
    "contract",
    [
        tissue_contract(),
        lesion_contract(contrasts=("FLAIR", "T2"), detection={"extent": 0.4}, coarsest_mm=(2.0, 6.5)),
        HeadContract("classification", (GROUP, HeadGroup("anatomy", (HeadClass("head"), HeadClass("other"))))),
    ],
)
def test_what_is_written_is_read(contract):
    assert HeadContract.from_json(json.loads(json.dumps(contract.to_json()))) == contract


def test_outputs_are_the_classes_of_all_groups():
    contract = HeadContract("classification", (GROUP, HeadGroup("anatomy", tuple(map(HeadClass, "abc")))))
    assert contract.outputs == 5
    assert not contract.whole_volumes
    assert (tissue_contract().halo, tissue_contract().whole_volumes) == (2, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "guessing"}, "task"),
        ({"groups": []}, "groups"),
        ({"groups": [GROUP.__class__("one", (HeadClass("a"),))]}, "classes"),
        ({"slices": 4}, "odd"),
        ({"fewest_slices": 0}, "fewest_slices"),
        ({"coarsest_mm": [1.0]}, "coarsest_mm"),
        ({"coarsest_mm": [1.0, float("nan")]}, "coarsest_mm"),
        ({"detection": 3}, "detection"),
        ({"colour": "red"}, "fields"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    data = json.loads(json.dumps(tissue_contract().to_json()))
    changed = {**data, **change}
    if "groups" in change:
        changed["groups"] = [
            {"name": group.name, "classes": [{"name": each.name} for each in group.classes]}
            for group in change["groups"]
        ]
    with pytest.raises(ValueError, match=message):
        HeadContract.from_json(changed)


def test_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="different names"):
        HeadContract("segmentation", (HeadGroup("s", (HeadClass("a"), HeadClass("a"))),))
