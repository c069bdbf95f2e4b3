"""Files and the command: no marker in any byte of the new file, and the same images from it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from click.testing import CliRunner, Result
from maximal_header import Markers, maximal_xml
from raw_builders import Encoding, Phantom, Readout, cartesian, header_xml, noise_readouts, write_mrd
from recond_testing import Service

import recond_client
from recond_client import InputError
from recond_client.cli import main
from recond_client.privacy.files import deidentify_file
from recond_client.privacy.patient_map import PatientMap
from recond_client.privacy.profile import Action, Area
from recond_models.simulate import write_fastmri
from recond_models.simulate.scan import ScanSettings, simulate

KEY = bytes(range(32))
SIZE = (64, 48)


def readouts(count: int = 1) -> list[Readout]:
    encoding = Encoding()
    kspace = encoding.kspace(Phantom())
    return [
        Readout(each.data, each.step, each.flags, counters={"slice": number})
        for number in range(count)
        for each in cartesian(kspace, encoding)
    ]


def stamp(path: Path, group: str) -> None:
    """Write into the headers of readouts what scanners write there."""
    with h5py.File(path, "r+") as file:
        rows = file[group]["data"][()]
        for number, head in enumerate(rows["head"]):
            head["acquisition_time_stamp"] = 20_000_000 + number
            head["physiology_time_stamp"] = 1_234_567
            head["user_int"] = 19_700_101
            head["user_float"] = 19_700_101.5
            head["measurement_uid"] = 4_711_000
        file[group]["data"][:] = rows


def hidden(path: Path, markers: Markers) -> Path:
    """An ISMRMRD file with a marker in every place that can hold one."""
    first, second = f"{markers.text('group')}_1", f"{markers.text('group')}_2"
    write_mrd(path, header_xml(Encoding()), noise_readouts(3), first)
    write_mrd(path, maximal_xml(markers), readouts(2), second)
    stamp(path, second)
    with h5py.File(path, "r+") as file:
        group = file[second]
        file.attrs["made by"] = markers.text("attribute")
        group.attrs[markers.text("name of an attribute")] = "x"
        group["data"].attrs["note"] = markers.text("attribute of data")
        group["configAdditional"] = markers.text("configAdditional")
        group["waveforms"] = np.frombuffer(markers.text("waveforms").encode(), np.uint8)
        group[markers.text("member")] = markers.text("text")
        file[markers.text("top")] = markers.text("text at the top")
        file["soft"] = h5py.SoftLink(f"/{markers.text('soft link')}")
        file["external"] = h5py.ExternalLink(f"{markers.text('external')}.h5", "/x")
    meta = ismrmrd.Meta(
        {
            "IceMiniHead": markers.text("IceMiniHead"),
            "ImageComments": markers.text("ImageComments"),
            markers.text("name of meta"): "x",
            "WindowCenter": "40",
        }
    )
    with ismrmrd.Dataset(str(path), second) as dataset:
        for number in range(2):
            image = ismrmrd.Image.from_array(np.full((8, 8), number, np.float32), user_int=(19_700_101,) * 8)
            image.attribute_string = meta.serialize()
            dataset.append_image(markers.text("images") if number == 0 else "image_7", image)
    return path


def test_no_marker_is_in_any_byte(tmp_path: Path) -> None:
    markers = Markers()
    source = hidden(tmp_path / "in.h5", markers)
    before = source.read_bytes()
    assert len(markers.found_in(before)) > 70
    done = deidentify_file(source, tmp_path / "out.h5", key=KEY)
    raw = (tmp_path / "out.h5").read_bytes()
    assert not markers.found_in(raw, repr(done))
    for number in (19_700_101, 4_711_000, 1_234_567):
        assert np.array(number, "<u4").tobytes() not in raw
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5", "out.h5"]


def test_what_is_in_the_new_file(tmp_path: Path) -> None:
    source = hidden(tmp_path / "in.h5", Markers())
    done = deidentify_file(source, tmp_path / "out.h5", key=KEY)
    with h5py.File(tmp_path / "out.h5") as file, h5py.File(source) as original:
        assert list(file) == ["dataset_1", "dataset_2"]
        assert not file.attrs
        assert sorted(file["dataset_2"]) == ["data", "image_0", "image_1", "xml"]
        old_name = next(name for name in original if name.endswith("_2"))
        old, new = original[old_name]["data"][()], file["dataset_2"]["data"][()]
        assert len(new) == len(old) == 2 * SIZE[1]
        assert all((one == other).all() for one, other in zip(old["data"], new["data"], strict=True))
        assert new["head"]["acquisition_time_stamp"].tolist() == list(range(len(new)))
        for name in ("flags", "idx", "number_of_samples", "position", "scan_counter"):
            assert new["head"][name].tobytes() == old["head"][name].tobytes()
    with ismrmrd.Dataset(str(tmp_path / "out.h5"), "dataset_2", create_if_needed=False) as dataset:
        ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
        assert dataset.number_of_acquisitions() == 2 * SIZE[1]
        assert dataset.read_acquisition(3).data.shape == (3, SIZE[0])
        image = dataset.read_image("image_1", 0)
        assert ismrmrd.Meta.deserialize(image.attribute_string) == {"WindowCenter": "40"}
        assert not any(image.user_int)
    done_in = {(each.area, each.place): (each.action, each.count) for each in done.removed}
    assert done_in[Area.FILE, "waveforms"] == (Action.REMOVE, 1)
    assert done_in[Area.FILE, "configAdditional"] == (Action.REMOVE, 1)
    assert done_in[Area.FILE, "(names of groups)"] == (Action.CLEAN, 4)
    assert done_in[Area.META, "IceMiniHead"] == (Action.REMOVE, 2)
    assert done_in[Area.ACQUISITION, "acquisition_time_stamp"] == (Action.CLEAN, 2 * SIZE[1])
    assert done_in[Area.ACQUISITION, "user_int"] == (Action.ZERO, 2 * SIZE[1])


def test_what_would_be_done_is_what_is_done(tmp_path: Path) -> None:
    source = hidden(tmp_path / "in.h5", Markers())
    shown = deidentify_file(source, None, key=KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]
    done = deidentify_file(source, tmp_path / "out.h5", key=KEY)
    assert shown.removed == done.removed
    assert shown.map == done.map


def test_one_measurement_is_called_dataset(tmp_path: Path) -> None:
    source = write_mrd(tmp_path / "in.h5", header_xml(Encoding()), readouts(), "Jane Doe")
    deidentify_file(source, tmp_path / "out.h5", key=KEY)
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["dataset"]
    assert b"Jane" not in (tmp_path / "out.h5").read_bytes()


def test_deleted_data_and_user_blocks_stay_behind(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w", userblock_size=512) as file:
        file["gone"] = "Jane Doe " * 1000
        del file["gone"]
    write_mrd(tmp_path / "in.h5", header_xml(Encoding()), readouts())
    with (tmp_path / "in.h5").open("r+b") as raw:
        raw.write(b"Jane Doe in a user block")
    deidentify_file(tmp_path / "in.h5", tmp_path / "out.h5", key=KEY)
    assert b"Jane Doe" in (tmp_path / "in.h5").read_bytes()
    assert b"Jane Doe" not in (tmp_path / "out.h5").read_bytes()


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A file of 100 MB needs a few blocks of 8 MB."""
    source = tmp_path / "in.h5"
    data = np.ones((16, 4000), np.complex64)
    write_mrd(source, header_xml(Encoding()), [Readout(data, step % 48) for step in range(200)])
    assert source.stat().st_size > 100e6
    tracemalloc.start()
    try:
        deidentify_file(source, tmp_path / "out.h5", key=KEY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


# fastMRI


@pytest.fixture
def fastmri(tmp_path: Path) -> Path:
    scan = simulate(
        ScanSettings(
            phantom="shepp-logan", coils=4, slices=2, rows=64, columns=48, acceleration=1, noise=0.0, oversampling=1
        )
    )
    path = tmp_path / "fast.h5"
    write_fastmri.write(scan, path)
    return path


def test_fastmri(tmp_path: Path, fastmri: Path) -> None:
    markers = Markers()
    with h5py.File(fastmri, "r+") as file:
        file.attrs["patient_id"] = markers.text("patient_id")
        file.attrs["acquisition"] = f"AXT2 {markers.text('acquisition')}"
        file.attrs["operator"] = markers.text("attribute")
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = maximal_xml(markers)
        file["notes"] = markers.text("member")
        file["kspace"].attrs["x"] = markers.text("attribute of k-space")
        largest = float(file.attrs["max"])
    done = deidentify_file(fastmri, tmp_path / "out.h5", key=KEY)
    assert not markers.found_in((tmp_path / "out.h5").read_bytes(), repr(done))
    with h5py.File(fastmri) as old, h5py.File(tmp_path / "out.h5") as new:
        assert set(new) == set(old) - {"notes"}
        for name in set(new) - {"ismrmrd_header"}:
            assert new[name].dtype == old[name].dtype
            assert (new[name][()] == old[name][()]).all()
        assert new.attrs["acquisition"] == "AXT2"
        assert new.attrs["max"] == largest
        assert set(new.attrs) == {"patient_id", "acquisition", "max", "norm"}
        assert new.attrs["patient_id"] != old.attrs["patient_id"]
        assert done.map.restored(new.attrs["patient_id"]) == old.attrs["patient_id"]
    again = deidentify_file(fastmri, tmp_path / "again.h5", key=KEY)
    assert again.map == done.map


# The same images


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[recond_client.Client]:
    with recond_client.Client(service.address) as client:
        yield client


def same_images(client: recond_client.Client, before: Path, after: Path) -> recond_client.Result:
    one, other = (client.reconstruct(path, model="rss") for path in (before, after))
    assert one.shape == other.shape
    assert np.array_equal(one.images, other.images)
    assert [finding.code for finding in one.findings] == [finding.code for finding in other.findings]
    return other


def test_the_images_are_the_same(tmp_path: Path, client: recond_client.Client, fastmri: Path) -> None:
    system = (
        "<systemVendor>Siemens</systemVendor><receiverChannels>3</receiverChannels>"
        + "".join(
            f"<coilLabel><coilNumber>{number}</coilNumber><coilName>{name}</coilName></coilLabel>"
            for number, name in enumerate(["Jane", "H1", "Doe"])
        )
        + "<institutionName>St. Elsewhere</institutionName>"
    )
    before = "<subjectInformation><patientName>DOE^JANE</patientName></subjectInformation>"
    xml = header_xml(Encoding(), system=system, before=before)
    source = tmp_path / "scan.h5"
    write_mrd(source, xml, noise_readouts(3), "Doe_1")
    write_mrd(source, xml, readouts(3), "Doe_2")
    stamp(source, "Doe_2")
    deidentify_file(source, tmp_path / "out.h5", key=KEY)
    result = same_images(client, source, tmp_path / "out.h5")
    assert result.shape[0] == 3
    assert "coils-whitened" in {finding.code for finding in result.findings}
    deidentify_file(fastmri, tmp_path / "fast-out.h5", key=KEY)
    same_images(client, fastmri, tmp_path / "fast-out.h5")


# What is refused


def test_what_is_no_raw_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Jane Doe")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["Jane"] = 1
    write_mrd(tmp_path / "broken.h5", "<ismrmrdHeader><Jane></ismrmrdHeader>", readouts())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["Jane/xml"], file["Jane/data"] = "x", [1, 2]
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((1, 2, 2), np.complex64)
        layout[0] = h5py.VirtualSource("Jane.h5", "x", (2, 2))
        file.create_virtual_dataset("kspace", layout)
    write_mrd(tmp_path / "cut.h5", header_xml(Encoding()), readouts())
    with (tmp_path / "cut.h5").open("r+b") as raw:
        raw.truncate(20_000)
    for name, said in {
        "none": "no file",
        "text": "not an HDF5 file",
        "empty.h5": "convert others",
        "broken.h5": "not well-formed",
        "other.h5": "not an MRD header|not well-formed",
        "virtual.h5": "other files",
        "cut.h5": "damaged",
    }.items():
        with pytest.raises(InputError, match=said) as refused:
            deidentify_file(tmp_path / name, tmp_path / "out.h5", key=KEY)
        assert "Jane" not in str(refused.value)
        assert not (tmp_path / "out.h5").exists()
    assert not list(tmp_path.glob(".*"))


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    source = write_mrd(tmp_path / "in.h5", header_xml(Encoding()), readouts())
    before = source.read_bytes()
    (tmp_path / "link.h5").symlink_to(source)
    (tmp_path / "hard.h5").hardlink_to(source)
    for name in ("in.h5", "link.h5", "hard.h5"):
        with pytest.raises(InputError, match="never overwritten"):
            deidentify_file(source, tmp_path / name, key=KEY)
    with pytest.raises(InputError, match="cannot be written"):
        deidentify_file(source, tmp_path / "none" / "out.h5", key=KEY)
    assert source.read_bytes() == before


# The command


def recond(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["deidentify", *map(str, arguments)])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    before = (
        "<subjectInformation><patientName>DOE^JANE</patientName></subjectInformation>"
        "<studyInformation><studyInstanceUID>1.2.3</studyInstanceUID></studyInformation>"
    )
    return write_mrd(tmp_path / "scan.h5", header_xml(Encoding(), before=before), readouts())


def test_show_writes_nothing(tmp_path: Path, scan: Path) -> None:
    for arguments in ([scan], [scan, "--show"], [scan, "--show", "-o", tmp_path / "out.h5", "--key", tmp_path / "key"]):
        result = recond(*arguments)
        assert result.exit_code == 0, result.output
        assert "subjectInformation.patientName" in result.output
        assert "nothing was written" in result.output
        assert "DOE" not in result.output
        assert [path.name for path in tmp_path.iterdir()] == ["scan.h5"]


def test_the_command_with_a_map(tmp_path: Path, scan: Path) -> None:
    out, held, key = tmp_path / "out.h5", tmp_path / "scan.map", tmp_path / "site.key"
    result = recond(scan, "-o", out, "--map", held, "--key", key, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert said["profile"] == "recond-mrd-1"
    assert said["outputs"] == [str(out), str(held), str(key)]
    assert {(each["place"], each["action"]) for each in said["removed"]} == {
        ("subjectInformation.patientName", "X"),
        ("studyInformation.studyInstanceUID", "U"),
    }
    assert "DOE" not in result.output
    patient = PatientMap.read(held, bytes.fromhex(key.read_text()))
    assert patient.attributes() == {"patientName": "DOE^JANE", "studyInstanceUID": "1.2.3"}
    second = recond(scan, "-o", tmp_path / "two.h5", "--map", tmp_path / "two.map", "--key", key)
    assert second.exit_code == 0, second.output
    assert PatientMap.read(tmp_path / "two.map", bytes.fromhex(key.read_text())) == patient


def test_without_a_key_uids_differ_each_time(tmp_path: Path, scan: Path) -> None:
    for name in ("one.h5", "two.h5"):
        assert recond(scan, "-o", tmp_path / name).exit_code == 0
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "two.h5") as two:
        assert one["dataset/xml"][0] != two["dataset/xml"][0]


def test_misuse_is_explained(tmp_path: Path, scan: Path) -> None:
    (tmp_path / "open.key").write_text("0" * 64)
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "old.map").touch()
    out = tmp_path / "out.h5"
    for arguments, code, said in (
        ([scan, "-o", out, "--map", tmp_path / "m"], 2, "--map needs --key"),
        ([scan, "--map", tmp_path / "m", "--key", tmp_path / "k"], 2, "--map goes with -o"),
        ([scan, "-o", scan], 2, "is the input"),
        ([scan, "-o", tmp_path / "out.txt"], 2, "does not end in"),
        ([scan, "-o", out, "--key", tmp_path / "open.key"], 3, "chmod 600"),
        ([scan, "-o", out, "--map", tmp_path / "old.map", "--key", tmp_path / "k"], 2, "never overwritten"),
        ([scan, "-o", out, "--map", tmp_path / "none/m", "--key", tmp_path / "k"], 2, "cannot be written"),
        ([tmp_path / "none.h5", "-o", out], 3, "no file"),
    ):
        result = recond(*arguments)
        assert result.exit_code == code, result.output
        assert said in " ".join(result.output.split())
        assert not out.exists()
        assert not (tmp_path / "k").exists()
