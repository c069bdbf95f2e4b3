"""Results of heads as the client puts them together, and as it prints them."""

import numpy as np
import pytest

from recond.v1 import heads_pb2 as pb
from recond_client.heads import HeadReceiver, HeadResult, Instance, Measurement, heads_json, results_by_name

LABELS = np.arange(24, dtype="<u2").reshape(2, 3, 4)
SHARES = np.full(24, 51, np.uint8)
CONTENT = LABELS.tobytes() + SHARES.tobytes()


def message(**changes: object) -> pb.HeadResult:
    sizes = {"slices": 2, "rows": 3, "columns": 4, "label_bytes": 2, "has_confidence": True, "size_bytes": 72} | changes
    names = [pb.Label(value=3, name="white matter", code=pb.Code(value="1", scheme="SCT", meaning="x"))]
    return pb.HeadResult(
        head="tissue", task="segmentation", images=[4, 5], label_map=pb.LabelMap(labels=names, **sizes)
    )


def test_a_label_map_in_pieces():
    receiver = HeadReceiver()
    assert receiver.take_result(message()) is None
    assert not receiver.whole
    assert receiver.take_map(pb.HeadMap(offset=0, data=CONTENT[:50])) is None
    result = receiver.take_map(pb.HeadMap(offset=50, data=CONTENT[50:]))
    assert receiver.whole
    assert receiver.results == [result]
    assert np.array_equal(result.label_map, LABELS)
    assert result.confidence == pytest.approx(np.full((2, 3, 4), 0.2))
    assert result.labels == {"white matter": 3}
    assert result.codes["white matter"].scheme == "SCT"


@pytest.mark.parametrize(
    "changes",
    [{"label_bytes": 4}, {"size_bytes": 71}, {"slices": 3, "size_bytes": 108}, {"rows": 2**31, "columns": 2**31}],
)
def test_sizes_that_do_not_belong_together(changes):
    with pytest.raises(ValueError, match="do not belong together"):
        HeadReceiver().take_result(message(**changes))


def test_pieces_out_of_order_and_too_many():
    receiver = HeadReceiver()
    with pytest.raises(ValueError, match="none is due"):
        receiver.take_map(pb.HeadMap(offset=0, data=b"x"))
    receiver.take_result(message())
    with pytest.raises(ValueError, match="none is due"):
        receiver.take_map(pb.HeadMap(offset=5, data=b"x"))
    with pytest.raises(ValueError, match="ended after 0 bytes"):
        receiver.take_result(message())
    with pytest.raises(ValueError, match="more bytes"):
        receiver.take_map(pb.HeadMap(offset=0, data=CONTENT + b"x"))


def test_a_segmentation_as_json():
    volumes = (Measurement("volume", 5.0, "mL", 3, 0.5), Measurement("volume", 7.0, "mL"))
    result = HeadResult(
        "tissue", "1", "", "segmentation", "axial", labels={"white": 3, "grey": 2}, measurements=volumes
    )
    printed = result.to_json()
    assert printed["volumes_ml"] == {"white": 5.0, "grey": None}
    assert printed["deviations_ml"] == {"white": 0.5}
    assert printed["total_ml"] == 7.0


def test_lesions_as_json():
    found = (
        Instance(1, (0, 0, 0), (1, 1, 1), 0.9, (1.0, 2.0, 3.0), "white matter"),
        Instance(2, (0,) * 3, (1,) * 3, 0.8),
    )
    measured = (
        Measurement("volume", 4.0, "mL", 1),
        Measurement("diameter", 20.0, "mm", 1),
        Measurement("volume", 5.0, "mL"),
        Measurement("lesion volume in white matter", 3.0, "mL"),
    )
    printed = HeadResult("lesion", "1", "", "lesions", instances=found, measurements=measured).to_json()
    assert (printed["count"], printed["total_ml"], printed["load_ml"]) == (2, 5.0, {"white matter": 3.0})
    first, second = printed["lesions"]
    assert (first["volume_ml"], first["diameter_mm"], first["structure"]) == (4.0, 20.0, "white matter")
    assert (second["structure"], second["centre_mm"]) == (None, [])


def test_a_classification_as_json_names_the_worst_artefact():
    grades = dict.fromkeys(("none", "mild", "severe"), 0.3)
    scores = {"contrast": {"T1": 0.9}, "motion": grades, "noise": grades}
    answers = {"contrast": "T1", "motion": "mild", "noise": "severe"}
    printed = HeadResult("series", "1", "", "classification", scores=scores, answers=answers).to_json()
    assert (printed["contrast"], printed["artefact"]) == ("T1", "noise")
    clean = HeadResult("series", "1", "", "classification", scores=scores, answers=dict.fromkeys(answers, "none"))
    assert clean.to_json()["artefact"] == "none"


def test_refusals_and_several_volumes():
    slice_ = HeadResult("series", "1", "", "classification", answers={"contrast": "T2"})
    first = HeadResult("series", "1", "", "classification", "axial", 0, answers={"contrast": "T1"})
    second = HeadResult("series", "1", "", "classification", "axial", 1, refusal="IMAGE_EMPTY", problem="why")
    assert results_by_name([slice_, first, second]) == {"series": first}
    printed = heads_json([slice_, first, second])["series"]
    assert printed["contrast"] == "T1"
    assert [each.get("refusal") for each in printed["volumes"]] == [None, "IMAGE_EMPTY"]
    assert "volumes" not in heads_json([slice_, first])["series"]


MAPS = np.arange(48, dtype="<f4").reshape(2, 2, 3, 4)


def explained(**changes: object) -> pb.HeadResult:
    groups = [pb.Attention(group="contrast", name="T1"), pb.Attention(group="plane", name="axial")]
    sizes = {"slices": 2, "rows": 3, "columns": 4, "size_bytes": 192, "maps": groups} | changes
    return pb.HeadResult(head="series", task="classification", images=[4, 5], attention=pb.AttentionMaps(**sizes))


def test_attention_maps_in_pieces():
    receiver = HeadReceiver()
    assert receiver.take_result(explained()) is None
    assert receiver.take_map(pb.HeadMap(offset=0, data=MAPS.tobytes()[:90])) is None
    result = receiver.take_map(pb.HeadMap(offset=90, data=MAPS.tobytes()[90:]))
    assert (result.label_map, result.confidence) == (None, None)
    assert np.array_equal(result.attention["contrast"], MAPS[0])
    assert np.array_equal(result.attention["plane"], MAPS[1])
    assert result.attention_classes == {"contrast": "T1", "plane": "axial"}
    assert "attention" not in result.to_json()


@pytest.mark.parametrize("changes", [{"size_bytes": 191}, {"slices": 3, "size_bytes": 288}, {"maps": []}])
def test_attention_maps_whose_sizes_do_not_belong_together(changes):
    with pytest.raises(ValueError, match="attention maps of 'series' have sizes that do not belong together"):
        HeadReceiver().take_result(explained(**changes))
