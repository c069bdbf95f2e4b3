"""What the client sends for Analyze and Compare."""

import io
from datetime import UTC, date, datetime

import numpy as np
import pytest

from recond_client import InputError, Visit
from recond_client.analysis import analysis_request, analysis_upload, compare_request


def test_a_folder_stands_for_its_files_in_order(tmp_path):
    for name in ("b.dcm", "a.dcm", ".DS_Store"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "more").mkdir()
    upload = analysis_upload(tmp_path)
    assert [name for _, name in upload.parts] == ["a.dcm", "b.dcm"]
    assert [(each.chunk.part, each.chunk.offset, each.chunk.data) for each in upload.requests()] == [
        (0, 0, b"a.dcm"),
        (1, 0, b"b.dcm"),
    ]
    assert len(analysis_upload([tmp_path / "a.dcm", b"x", io.BytesIO(b"yy")]).parts) == 3


def test_a_large_file_goes_in_pieces(tmp_path):
    content = bytes(range(256)) * 10_000
    chunks = [each.chunk for each in analysis_upload(content).compare_requests()]
    assert len(chunks) > 1
    assert b"".join(chunk.data for chunk in chunks) == content
    assert [chunk.offset for chunk in chunks] == list(np.cumsum([0, *(len(chunk.data) for chunk in chunks[:-1])]))


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([], "NO_FILES"),
        ("/nowhere.nii", "FILE_NOT_FOUND"),
        (b"", "EMPTY"),
        (np.zeros((3, 3)), "WRONG_TYPE"),
        (None, "WRONG_TYPE"),
    ],
    ids=["nothing", "missing", "empty", "array", "None"],
)
def test_images_that_cannot_be_sent(images, reason):
    with pytest.raises(InputError) as caught:
        analysis_upload(images)
    assert caught.value.reason == reason


def test_a_file_that_becomes_shorter_meanwhile(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"x" * 100)
    upload = analysis_upload(path)
    path.write_bytes(b"x" * 10)
    with pytest.raises(InputError, match="after 10 of 100 bytes"):
        list(upload.chunks())
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        list(upload.chunks())


def test_spacing_is_any_sequence_of_numbers():
    upload = analysis_upload(b"x")
    for spacing in ((5, 1, 1), np.array([5.0, 1.0, 1.0])):
        spec = analysis_request(upload, ["tissue"], [".png"], "clinical", spacing).spec
        assert list(spec.spacing) == [5, 1, 1]
    for wrong in ("5,1,1", 3.0, [None]):
        with pytest.raises(InputError, match="slices, rows and columns"):
            analysis_request(upload, ["tissue"], [], "clinical", wrong)
    for heads, priority, reason in (([], "clinical", "NO_HEADS"), (["a"], "now", "UNKNOWN_PRIORITY")):
        with pytest.raises(InputError) as caught:
            analysis_request(upload, heads, [], priority, None)
        assert caught.value.reason == reason


def test_visits_that_begin_with_files_of_one_name_are_told_apart(tmp_path):
    for year in ("2025", "2026"):
        (tmp_path / year).mkdir()
        (tmp_path / year / "IM0001.dcm").write_bytes(b"x")
    visits = [Visit(tmp_path / "2025"), Visit(tmp_path / "2026"), Visit(b"x"), Visit(b"x", name="mine")]
    request, upload = compare_request(visits, ["lesion"], "P7", b"patient,date", "clinical")
    names = [visit.name for visit in request.spec.visits]
    assert names == ["IM0001.dcm (visit 1)", "IM0001.dcm (visit 2)", "visit 3", "mine"]
    assert len(upload.parts) == 5
    assert request.spec.clinical_rows.size_bytes == 12


def test_dates_are_days():
    visits = [
        Visit(b"x", each) for each in (date(2026, 1, 2), datetime(2026, 1, 3, 4, 5, tzinfo=UTC), "2026-01-04", None)
    ]
    request, _ = compare_request(visits, ["lesion"], "", None, "clinical")
    assert [visit.date for visit in request.spec.visits] == ["2026-01-02", "2026-01-03", "2026-01-04", ""]
    with pytest.raises(InputError):
        compare_request([], ["lesion"], "", None, "clinical")


def test_label_maps_follow_the_images_of_their_visit():
    visit = Visit([b"a", b"bb"], labels={"lesion": b"ccc"}, spacing=(5, 1, 1))
    request, upload = compare_request([visit, Visit(b"dddd")], [], "", None, "stat")
    assert [content.size for content, _ in upload.parts] == [1, 2, 3, 4]
    assert request.spec.visits[0].labels[0].head == "lesion"
