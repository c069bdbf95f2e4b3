"""What the specs of Analyze and Compare may say, and how errors are kept short enough for gRPC."""

import pytest
from head_packages import lesion_contract, tissue_contract, write_brightness_head

from recond.v1 import analysis_pb2 as pb
from recond.v1 import reconstruction_pb2
from recond_service.api import analyze, compare
from recond_service.api.errors import shortened, status_details
from recond_service.types import InvalidInputError, LimitExceededError, Limits, PartRole, Priority, RecondError


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path))
    write_brightness_head(tmp_path, "bright", tissue_contract())
    write_brightness_head(tmp_path, "lesion", lesion_contract())


def part(size: int = 100, name: str = "a.nii") -> pb.ImagePart:
    return pb.ImagePart(name=name, size_bytes=size)


def analysis(**changes: object) -> pb.AnalyzeSpec:
    return pb.AnalyzeSpec(**{"parts": [part()], "heads": ["bright"], **changes})


def comparison(*visits: pb.Visit, **changes: object) -> pb.CompareSpec:
    return pb.CompareSpec(**{"visits": visits or [visit("a"), visit("b")], "heads": ["lesion"], **changes})


def visit(name: str = "", **changes: object) -> pb.Visit:
    return pb.Visit(**{"name": name, "parts": [part()], **changes})


def labels(head: str = "lesion", size: int = 9) -> pb.VisitLabels:
    return pb.VisitLabels(head=head, part=part(size))


@pytest.mark.parametrize(
    ("changes", "kind", "reason", "field"),
    [
        ({"parts": []}, InvalidInputError, "NOTHING_TO_DO", "spec.parts"),
        ({"heads": []}, InvalidInputError, "NOTHING_TO_DO", "spec.heads"),
        ({"heads": ["bright"] * 65}, InvalidInputError, "TOO_MANY_HEADS", "spec.heads"),
        ({"parts": [part()] * 4097}, InvalidInputError, "TOO_MANY_PARTS", "spec.parts"),
        ({"spacing": [1.0] * 4}, InvalidInputError, "TOO_MANY_SPACING", "spec.spacing"),
        (
            {"outputs": [reconstruction_pb2.OUTPUT_FORMAT_PNG] * 17},
            InvalidInputError,
            "TOO_MANY_OUTPUTS",
            "spec.outputs",
        ),
        ({"outputs": [reconstruction_pb2.OUTPUT_FORMAT_MRD]}, InvalidInputError, "OUTPUT_FORMAT", "spec.outputs[0]"),
        ({"parts": [part(), part(0)]}, InvalidInputError, "EMPTY_PART", "spec.parts[1].size_bytes"),
        ({"parts": [part(600), part(600)]}, LimitExceededError, "SCAN_TOO_LARGE", "spec.parts"),
    ],
)
def test_an_analysis_that_cannot_be(changes, kind, reason, field):
    with pytest.raises(kind) as caught:
        analyze.read_spec(analysis(**changes), Limits(max_scan_bytes=1000 if kind is LimitExceededError else 1 << 30))
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_an_analysis_as_it_is_meant():
    request = analyze.read_spec(analysis(parts=[part(name="C:\\scans\\a.nii")], spacing=[5, 1, 1]), Limits())
    assert [(each.role, each.name) for each in request.scan.parts] == [(PartRole.IMAGES, "a.nii")]
    assert (request.scan.spacing, request.priority, request.size_bytes) == ((5.0, 1.0, 1.0), Priority.CLINICAL, 100)


@pytest.mark.parametrize(
    ("spec", "kind", "reason", "field"),
    [
        (pb.CompareSpec(heads=["lesion"]), InvalidInputError, "NOTHING_TO_DO", "spec.visits"),
        (comparison(heads=[]), InvalidInputError, "NOTHING_TO_DO", "spec.heads"),
        (comparison(*[visit(str(n)) for n in range(33)]), InvalidInputError, "TOO_MANY_PARTS", "spec.visits"),
        (comparison(heads=["lesion"] * 65), InvalidInputError, "TOO_MANY_PARTS", "spec.heads"),
        (comparison(visit("a", parts=[part()] * 4097)), InvalidInputError, "TOO_MANY_PARTS", "spec.visits"),
        (comparison(visit("a"), visit("a")), InvalidInputError, "VISIT_NAMES", "spec.visits"),
        (comparison(visit("visit 2"), visit("")), InvalidInputError, "VISIT_NAMES", "spec.visits"),
        (comparison(visit("a" * 201)), InvalidInputError, "VISIT_NAMES", "spec.visits"),
        (comparison(visit("a", labels=[labels("")])), InvalidInputError, "NO_HEAD", "spec.visits[0].labels[0].head"),
        (
            comparison(visit("a", labels=[labels(size=0)])),
            InvalidInputError,
            "EMPTY_PART",
            "spec.visits[0].labels[0].part.size_bytes",
        ),
        (comparison(clinical_rows=part(0)), InvalidInputError, "EMPTY_PART", "spec.clinical_rows.size_bytes"),
        (comparison(visit("a", parts=[part(2000)])), LimitExceededError, "SCAN_TOO_LARGE", "spec.visits"),
    ],
)
def test_a_comparison_that_cannot_be(spec, kind, reason, field):
    with pytest.raises(kind) as caught:
        compare.read_spec(spec, Limits(max_scan_bytes=1000 if kind is LimitExceededError else 1 << 30))
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_heads_run_where_no_label_map_stands_in_for_them():
    given = [visit("a", labels=[labels("lesion"), labels("bright")]), visit("", labels=[labels("lesion")])]
    request = compare.read_spec(
        comparison(*given, heads=["lesion", "bright"], clinical_rows=part(5, "x/v.csv")), Limits()
    )
    assert {head.info.name: head.wanted for head in request.scan.heads} == {"bright": True, "series": False}
    assert [(each.role.name, each.visit, each.head) for each in request.scan.parts] == [
        ("IMAGES", 0, ""),
        ("LABELS", 0, "lesion"),
        ("LABELS", 0, "bright"),
        ("IMAGES", 1, ""),
        ("LABELS", 1, "lesion"),
        ("CLINICAL_ROWS", 0, ""),
    ]
    assert [each.name for each in request.scan.visits] == ["a", "visit 2"]
    assert request.scan.visits[0].structures == {"lesion": {}, "bright": {"grey matter": 1, "white matter": 2}}


def test_messages_that_repeat_what_came_stay_short():
    """gRPC drops a call whose trailing metadata are longer than 16 KiB, and with it the error."""
    error = InvalidInputError("there is no head " + "ä" * 100_000, field="x" * 100_000)
    assert len(shortened(error.message).encode()) <= 1500
    assert shortened("short") == "short"
    metadata = status_details(error, "r")
    assert sum(len(key) + len(value) for key, value in metadata) < 8192
    assert status_details(RecondError("fine"), "r")
