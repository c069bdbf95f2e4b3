"""Heads over the wire: on reconstructed images, on images of files, on visits that are compared."""

import gzip
import importlib.util
import io
import json
from dataclasses import replace

import grpc
import h5py
import nibabel
import numpy as np
import pytest
from exported_heads import Labels, write_bundle
from head_packages import lesion_contract, tissue_contract, write_brightness_head
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage
from recond_testing import fastmri_file, refused, requests_for

import recond_client
from recond.v1 import reconstruction_pb2 as pb
from recond_models.simulate.head import head_slices
from recond_models.store.add import AddRequest, add_model
from recond_models.store.place import remove_model

AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
SHAPE = (40, 36, 12)
HEADS = ("bright-tissue", "bright-lesion")
BRAIN = "bright-brain"


@pytest.fixture(scope="module", autouse=True)
def heads(added_models):
    """Heads that the service finds while it runs. Balls are no heads, so two of three take any anatomy."""
    write_brightness_head(added_models, HEADS[0], tissue_contract(anatomy=""))
    write_brightness_head(added_models, BRAIN, tissue_contract())
    write_brightness_head(added_models, HEADS[1], lesion_contract(detection={"extent": 0.5, "seed": 0.5}))
    yield HEADS
    for name in (*HEADS, BRAIN):
        remove_model(added_models, name)


@pytest.fixture
def client(service):
    with recond_client.Client(service.address) as made:
        yield made


def volume(*balls: tuple[tuple[int, int, int], float]) -> np.ndarray:
    """Return float32 (x, y, z) with bright balls; centres in voxels, radii in mm."""
    index = np.stack(np.meshgrid(*map(range, SHAPE), indexing="ij"), axis=-1)
    values = np.zeros(SHAPE, np.float32)
    for centre, radius in balls:
        values[(((index - centre) * AFFINE.diagonal()[:3]) ** 2).sum(axis=-1) <= radius**2] = 900
    return values


def nifti(values: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return gzip.compress(nibabel.Nifti1Image(values, affine).to_bytes())


def voxels_ml(values: np.ndarray) -> float:
    return float((values > 0).sum() * 16 / 1000)


def test_images_of_a_file_are_segmented_and_measured(client, tmp_path):
    values = volume(((20, 18, 6), 15))
    analysis = client.analyze(nifti(values), heads=HEADS, outputs=(".nii.gz", ".png", ".h5"))
    tissue, lesion = (analysis.heads[name] for name in HEADS)
    labelled = sum(tissue.measured("volume", label) for label in tissue.labels.values())
    assert labelled == pytest.approx(voxels_ml(values), rel=0.25)  # edges are half bright at 1 mm
    assert lesion.label_map.shape == (12, 40, 36)
    assert np.array_equal(lesion.label_map > 0, lesion.label_map == 1)
    (found,) = lesion.instances
    assert found.centre_mm == pytest.approx((-40, -36, 24), abs=1.0)
    assert found.structure in {"grey matter", "white matter"}
    assert lesion.to_json()["lesions"][0]["diameter_mm"] == pytest.approx(30, abs=5)
    written = analysis.save_all(tmp_path / "out.nii.gz")
    assert sorted(path.name for path in written) == ["out_bright-lesion.nii.gz", "out_bright-tissue.nii.gz"]
    stored = nibabel.load(tmp_path / "out_bright-tissue.nii.gz")
    assert stored.shape == SHAPE
    assert np.array_equal(stored.affine, AFFINE)
    assert np.array_equal(np.asarray(stored.dataobj).transpose(2, 0, 1), tissue.label_map)
    assert analysis.files[".png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (nifti(np.zeros(SHAPE, np.float32)), "IMAGE_EMPTY"),
        (nifti(np.full(SHAPE, np.nan, np.float32)), "IMAGE_NOT_FINITE"),
        (nifti(volume(((20, 18, 6), 15))[..., :2]), "TOO_FEW_SLICES"),
        (nifti(volume(((20, 18, 6), 15)), np.diag([9.0, 9, 9, 1])), "TOO_COARSE"),
        (b"not an image", "NOT_IMAGES"),
    ],
    ids=["empty", "not finite", "two slices", "coarse", "text"],
)
def test_images_that_heads_cannot_use_are_typed_errors(client, content, reason):
    with pytest.raises(recond_client.InputError) as caught:
        client.analyze(content, heads=HEADS)
    assert caught.value.reason == reason


def test_what_is_no_head_is_not_labelled_as_one(client):
    """The head `series` ships with the service, and guards the others."""
    rows, columns = np.indices(SHAPE[:2])
    bottles = np.zeros(SHAPE, np.float32)
    for row, column, brightness in ((10, 10, 900), (30, 10, 600), (20, 28, 400)):
        bottles[np.hypot(rows - row, columns - column) < 4] = brightness
    with pytest.raises(recond_client.InputError) as caught:
        client.analyze(nifti(bottles), heads=[BRAIN])
    assert caught.value.reason == "WRONG_ANATOMY"
    both = client.analyze(nifti(bottles), heads=[BRAIN, HEADS[0]])
    assert (both.heads[BRAIN].refusal, both.heads[HEADS[0]].refusal) == ("WRONG_ANATOMY", "")
    assert "head-refused" in {finding.code for finding in both.findings}


def test_a_head_is_taken_for_one(client):
    """The average head of MNI152, which nilearn brings along; nothing was trained on it."""
    if importlib.util.find_spec("nilearn") is None:
        pytest.skip("the head is not installed: pip install --no-deps nilearn")
    cut = head_slices(16, 120, 120, 240.0, 6.0)
    affine = np.diag([-2.0, -2.0, -cut.spacing, 1.0])
    content = nifti(cut.images.transpose(2, 1, 0).astype(np.float32), affine)
    analysis = client.analyze(content, heads=[BRAIN, "series"])
    assert dict(analysis.heads["series"].answers)["anatomy"] == "head"
    assert "head-outside-contract" not in {finding.code for finding in analysis.findings}
    brain = analysis.heads[BRAIN]
    labelled = sum(brain.measured("volume", label) for label in brain.labels.values())
    assert brain.measured("volume") == pytest.approx(labelled)
    assert labelled > 1000


def test_a_head_that_is_not_there(client, stub):
    with pytest.raises(recond_client.InputError) as caught:
        client.analyze(nifti(volume(((20, 18, 6), 15))), heads=["crystal-ball"])
    assert caught.value.reason == "NO_SUCH_HEAD"
    data = fastmri_file(np.ones((1, 2, 16, 16), np.complex64))
    refusal = refused(stub.Reconstruct(requests_for(data, heads=["crystal-ball"])))
    assert (refusal.code, refusal.reason, refusal.field) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_HEAD", "spec.heads[0]")


def test_reconstructed_images_come_with_heads_or_with_a_finding(client):
    """A fastMRI file does not say how large its pixels are: the images come all the same."""
    kspace = np.random.default_rng(0).standard_normal((4, 2, 24, 24)).astype(np.complex64)
    result = client.reconstruct(kspace=kspace, model="rss", heads=HEADS, outputs=(".h5",))
    assert result.images.shape == (4, 24, 24)
    assert {each.refusal for each in result.head_results} == {"SPACING_UNKNOWN"}
    assert "head-refused" in {finding.code for finding in result.findings}


def test_a_scan_with_geometry_is_segmented(client, tmp_path):
    from click.testing import CliRunner

    from recond_models.simulate.commands import simulate

    path = tmp_path / "scan.h5"
    options = ["--phantom", "shepp-logan", "--slices", "4", "--coils", "3", "--matrix", "96", "--acceleration", "1"]
    assert CliRunner().invoke(simulate, ["-o", str(path), *options]).exit_code == 0
    plain = client.reconstruct(path, model="rss")
    result = client.reconstruct(path, model="rss", heads=HEADS, outputs=(".h5", ".nii.gz", ".png"))
    assert np.array_equal(result.images, plain.images)
    tissue = result.heads[HEADS[0]]
    assert tissue.label_map.shape == result.images.shape
    assert tissue.images == tuple(index.image for index in result.index)
    labelled = tissue.label_map > 0  # what is bright, but for the thin shell around it, which counts as an island
    assert 0.02 < labelled.mean() < 0.5
    assert (result.images[labelled] > result.images.mean()).mean() > 0.95
    assert {"_bright-tissue.nii.gz", "_bright-lesion.nii.gz", ".nii.gz", ".h5", ".png"} == set(result.files)


def test_heads_are_listed_apart(client):
    listed = {head.name: head for head in client.heads()}
    assert set(HEADS) <= set(listed)
    assert not set(HEADS) & {model.name for model in client.models()}
    assert client.model(HEADS[0]).kind == "head"


def test_planted_growth_is_measured(client):
    before, after = volume(((20, 18, 6), 12), ((8, 8, 3), 7)), volume(((20, 18, 6), 14))
    visits = [
        recond_client.Visit(
            nifti(each * 0.2 + volume(((20, 18, 6), 30))), date, name, {"lesion": nifti((each > 0).astype(np.uint8))}
        )
        for each, date, name in ((before, "2026-01-01", "first"), (after, "2026-03-02", "second"))
    ]
    comparison = client.compare(visits, heads=["lesion"], patient="P7")
    changed = comparison.report["visits"][1]["comparison"]
    total = changed["lesions"]["lesion"]["total"]
    assert total["prior_ml"] == pytest.approx(voxels_ml(before))
    assert total["current_ml"] == pytest.approx(voxels_ml(after))
    statuses = sorted(each["status"] for each in changed["lesions"]["lesion"]["lesions"])
    assert statuses == ["grown", "vanished"]
    assert comparison.pictures["comparison"].startswith(b"\x89PNG")
    assert comparison.pictures["timeline"].startswith(b"\x89PNG")
    assert comparison.table.startswith("patient,visit,date")
    json.dumps(comparison.report)


def test_a_single_visit_has_no_changes(client):
    visit = recond_client.Visit(
        nifti(volume(((20, 18, 6), 15))), labels={"lesion": nifti((volume(((20, 18, 6), 9)) > 0).astype(np.uint8))}
    )
    changed = client.compare([visit], heads=["lesion"]).report["visits"][0]["comparison"]
    assert changed["prior"] is None
    assert changed["lesions"]["lesion"]["total"]["change_ml"] is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"date": "yesterday"}, "DATE"),
        ({"labels": {"lesion": nifti(np.ones((4, 4, 4), np.uint8))}}, "LABEL_MAP"),
        ({"images": b"no image"}, "NOT_IMAGES"),
    ],
)
def test_visits_that_cannot_be_read_are_typed_errors(client, change, reason):
    given = {
        "images": nifti(volume(((20, 18, 6), 15))),
        "labels": {"lesion": nifti((volume(((20, 18, 6), 9)) > 0).astype(np.uint8))},
        **change,
    }
    with pytest.raises(recond_client.InputError) as caught:
        client.compare([recond_client.Visit(**given)], heads=["lesion"])
    assert caught.value.reason == reason


def test_a_spec_without_heads_is_refused(client):
    with pytest.raises(recond_client.InputError, match="no head is named"):
        client.analyze(b"x", heads=[])
    assert pb.ReconstructSpec().heads == []


def recond(service, *arguments: object):
    from click.testing import CliRunner

    from recond_client.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in (*arguments, "--server", service.address)])


def test_analyze_on_the_command_line(service, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "head.nii.gz").write_bytes(nifti(volume(((20, 18, 6), 15))))
    outputs = ["-o", "out.nii.gz", "-o", "out.png", "-o", "out.h5"]
    result = recond(service, "analyze", "head.nii.gz", "--heads", ",".join(HEADS), *outputs, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["heads"][HEADS[1]]["count"] == 1
    assert set(printed["heads"][HEADS[0]]["volumes_ml"]) == {"grey matter", "white matter"}
    names = {"out_bright-tissue.nii.gz", "out_bright-lesion.nii.gz", "out.png", "out.h5"}
    assert set(printed["outputs"]) == names
    assert all((tmp_path / name).stat().st_size for name in names)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["heads/bright-lesion/labels"][()].max() == 1
        assert file["heads/bright-tissue/confidence"].shape == (12, 40, 36)
    plain = recond(service, "analyze", "head.nii.gz", "--heads", HEADS[1])
    assert plain.exit_code == 0
    assert "lesion" in plain.output
    (tmp_path / "empty.nii.gz").write_bytes(nifti(np.zeros(SHAPE, np.float32)))
    refusal = recond(service, "analyze", "empty.nii.gz", "--heads", HEADS[0])
    assert (refusal.exit_code, "IMAGE_EMPTY" in refusal.output) == (3, True)


def test_compare_on_the_command_line(service, tmp_path, monkeypatch):
    """Label maps beside the scans stand in for heads; one without names has those of the head."""
    monkeypatch.chdir(tmp_path)
    body = volume(((20, 18, 6), 30)) * 0.2
    for name, radius in (("a", 10), ("b", 14)):
        spot = volume(((20, 18, 6), radius))
        (tmp_path / f"{name}.nii.gz").write_bytes(nifti(body + spot))
        (tmp_path / f"{name}_{HEADS[0]}.nii.gz").write_bytes(nifti((spot > 0).astype(np.uint8) * 2))
    (tmp_path / "v.csv").write_text("patient;date;therapy\nP7;2026-01-15;SRS\n", encoding="utf-8-sig")
    options = [
        "--heads",
        HEADS[0],
        "--date",
        "2026-01-01",
        "--date",
        "2026-02-01",
        "--patient",
        "P7",
        "--clinical",
        "v.csv",
    ]
    outputs = ["-o", "c.json", "-o", "c.csv", "-o", "c.png"]
    result = recond(service, "compare", "a.nii.gz", "b.nii.gz", *options, *outputs, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert set(printed["outputs"]) == {"c.json", "c.csv", "c.png", "c_timeline.png"}
    report = json.loads((tmp_path / "c.json").read_text())
    structures = report["visits"][1]["comparison"]["structures"][HEADS[0]]
    assert structures["white matter"]["change_ml"] > 0
    assert report["clinical"][0]["therapy"] == "SRS"
    assert (tmp_path / "c.csv").read_text().startswith("patient,visit,date")
    assert recond(service, "compare", "a.nii.gz", "b.nii.gz", *options).exit_code == 0
    others = recond(service, "compare", "a.nii.gz", *options[:2], "--patient", "P8", "--clinical", "v.csv", "--json")
    assert "clinical-rows-of-others" in {finding["code"] for finding in json.loads(others.stdout)["findings"]}


def write_dicom(folder, slices: int, *, jpeg_2000: bool = False) -> None:
    """Write a series of a ball."""
    for number in range(slices):
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = MRImageStorage
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
        made.SeriesInstanceUID = "1.2.3"
        made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 40, 36, 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
        made.PixelSpacing, made.SliceThickness = [2, 2], 1
        made.ImageOrientationPatient, made.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, number]
        made.PixelData = volume(((20, 18, 6), 15))[:, :, 6].astype(np.uint16).tobytes()
        if jpeg_2000:
            content = io.BytesIO()
            Image.frombytes("I;16", (36, 40), made.PixelData).save(content, "JPEG2000", no_jp2=True)
            made.PixelData = encapsulate([content.getvalue()])
            made["PixelData"].is_undefined_length = True
            made.file_meta.TransferSyntaxUID = JPEG2000Lossless
        made.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def test_more_files_than_one_message_between_processes_carries(client, tmp_path):
    """A DICOM series is some hundred files."""
    write_dicom(tmp_path, 280)
    analysis = client.analyze(tmp_path, heads=HEADS[:1])
    assert analysis.shape == (280, 40, 36)
    assert analysis.heads[HEADS[0]].label_map.shape == (280, 40, 36)


def test_compressed_dicom_is_decoded_in_the_confined_process(client, tmp_path):
    plain, small = tmp_path / "plain", tmp_path / "small"
    for folder in (plain, small):
        folder.mkdir()
        write_dicom(folder, 6, jpeg_2000=folder is small)
    expected, found = (client.analyze(folder, heads=HEADS[:1]).heads[HEADS[0]] for folder in (plain, small))
    assert found.label_map.max() > 0
    assert np.array_equal(found.label_map, expected.label_map)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"date": "0001-01-01"}, "DATE"), ({"images": nifti(np.full(SHAPE, np.nan, np.float32))}, "FOLLOW_UP_VISIT")],
)
def test_visits_that_cannot_be_compared_are_no_defects(client, change, reason):
    labels = {"lesion": nifti((volume(((20, 18, 6), 9)) > 0).astype(np.uint8))}
    given = recond_client.Visit(nifti(volume(((20, 18, 6), 15))), name="$\\frac{", labels=labels)
    with pytest.raises(recond_client.InputError) as caught:
        client.compare([replace(given, name="$", **change), given], heads=["lesion"])
    assert caught.value.reason == reason


def test_heads_that_refuse_leave_nothing_to_compare(client):
    visit = recond_client.Visit(nifti(volume(((20, 18, 6), 15))[..., :2]))
    with pytest.raises(recond_client.InputError) as caught:
        client.compare([visit], heads=HEADS)
    assert caught.value.reason == "TOO_FEW_SLICES"


def test_a_name_without_end_is_an_error_like_any_other(client):
    with pytest.raises(recond_client.InputError) as caught:
        client.analyze(b"x", heads=["a" * 100_000])
    assert caught.value.reason == "NO_SUCH_HEAD"


def test_a_refusal_names_the_head(client, added_models, tmp_path):
    """A program for 64 x 64 pixels, beside a head that takes any size and alone."""
    contract = tissue_contract(anatomy="")
    add_model(AddRequest(write_bundle(tmp_path / "fixed", Labels(5, 3), contract, (64, 64), name="fixed")))
    try:
        large = nifti(volume(((20, 18, 6), 39)))
        beside = client.analyze(large, heads=[HEADS[0], "fixed"])
        assert {name: result.refusal for name, result in beside.heads.items()} == {
            HEADS[0]: "",
            "fixed": "FIELD_TOO_LARGE",
        }
        assert "64 x 64" in beside.heads["fixed"].problem
        with pytest.raises(recond_client.InputError) as caught:
            client.analyze(large, heads=["fixed"])
        assert (caught.value.reason, caught.value.field) == ("FIELD_TOO_LARGE", "spec.heads[0]")
    finally:
        remove_model(added_models, "fixed")
    with pytest.raises(recond_client.InputError) as caught:
        client.analyze(nifti(volume(((20, 18, 6), 15))[..., :2]), heads=HEADS)
    assert (caught.value.reason, caught.value.field) == ("TOO_FEW_SLICES", "spec.heads[0]")
