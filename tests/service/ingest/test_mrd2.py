"""MRD version 2 streams: written with the reference library, damaged, cut off, lying, and of other versions."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import mrd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_builders import Encoding, Phantom, Readout, cartesian, codes, file_request, rss_of

from recond_service.conditioning import condition
from recond_service.ingest import mrd2, read_scan
from recond_service.types import (
    FindingList,
    Frame,
    InvalidInputError,
    LimitExceededError,
    Limits,
    MrdHeader,
    PartFormat,
    RawScan,
    RecondError,
    UnsupportedDataError,
)

ENCODING = Encoding((24, 16), (240.0, 160.0), (12, 16), (120.0, 160.0))
SECRETS = ("Doe^Jane", "PAT-4711", "Dr. Nobody", "General Hospital", "SERIAL-99", "secret note", "1999")


def space(matrix: Iterable[int], view: Iterable[float]) -> mrd.EncodingSpaceType:
    x, y, z = (*matrix, 1)
    fx, fy, fz = (*view, 5.0)
    return mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(x=x, y=y, z=z), field_of_view_mm=mrd.FieldOfViewMm(x=fx, y=fy, z=fz)
    )


def header(**changes: object) -> mrd.Header:
    low, high, center = ENCODING.bounds
    encoding = mrd.EncodingType(
        encoded_space=space(ENCODING.matrix, ENCODING.view),
        recon_space=space(ENCODING.recon_matrix, ENCODING.recon_view),
        encoding_limits=mrd.EncodingLimitsType(
            kspace_encoding_step_1=mrd.LimitType(minimum=low, maximum=high, center=center)
        ),
        trajectory=mrd.Trajectory.CARTESIAN,
    )
    made = mrd.Header(encoding=[encoding], acquisition_system_information=mrd.AcquisitionSystemInformationType())
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def acquisition(readout: Readout) -> mrd.Acquisition:
    """The same readout in version 2."""
    head = mrd.AcquisitionHeader()
    head.flags = mrd.AcquisitionFlags(readout.flags)
    head.idx.kspace_encode_step_1 = readout.step
    head.center_sample = readout.data.shape[1] // 2
    head.read_dir, head.phase_dir, head.slice_dir = np.eye(3, dtype=np.float32)
    return mrd.Acquisition(
        head=head,
        data=np.ascontiguousarray(readout.data, np.complex64),
        trajectory=np.zeros((0, 0), np.float32),
    )


def stream(items: Iterable[object], head: mrd.Header | None) -> bytes:
    written = io.BytesIO()
    with mrd.BinaryMrdWriter(written) as writer:
        writer.write_header(head)
        writer.write_data(iter(items))
        writer._end_stream()
        writer._state = 4
        writer._stream.flush()
    return written.getvalue()


KSPACE = ENCODING.kspace(Phantom())
ITEMS = [mrd.StreamItem.Acquisition(acquisition(readout)) for readout in cartesian(KSPACE, ENCODING)]
GOOD = stream(ITEMS, header())
HEADER = stream([], header())[:-1]
HEADER_AT = len(re.match(rb"yardl....(..*?)\{", GOOD[:20], re.DOTALL)[0]) - 1 + 21336


def request_for(path: Path, data: bytes, **fields: object):
    path.write_bytes(data)
    return file_request(path, **fields)


def load(path: Path, data: bytes, **fields: object) -> tuple[RawScan, list[Frame], FindingList]:
    findings = FindingList()
    request = request_for(path, data, **fields)
    scan = read_scan(request, findings)
    return scan, list(condition(scan, request, findings)), findings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.mrd2"


@pytest.mark.parametrize("kind", [PartFormat.UNSPECIFIED, PartFormat.MRD2])
def test_stream_gives_the_frame_of_the_readouts(path, kind):
    scan, (frame,), findings = load(path, GOOD, kind=kind)
    assert scan.source.count == len(ITEMS)
    assert frame.image_shape == (12, 16)
    truth = rss_of(KSPACE)[6:18]
    image = rss_of(frame.kspace)
    np.testing.assert_allclose(image / image.max(), truth / truth.max(), atol=1e-4)
    assert frame.mask.all()
    assert "mrd2-items-ignored" not in codes(findings)


def test_every_field_arrives_in_its_place(path):
    made = mrd.Acquisition(data=np.zeros((3, 10), np.complex64), trajectory=np.ones((2, 10), np.float32))
    head = made.head
    head.flags = mrd.AcquisitionFlags((1 << 63) | (1 << 18))
    head.measurement_uid, head.scan_counter, head.acquisition_time_stamp = 7, 1 << 31, 12345
    head.physiology_time_stamp, head.channel_order = [1, 2, 3], [0, 65, 3]
    head.discard_pre, head.discard_post, head.center_sample, head.encoding_space_ref = 1, 2, 4, 0
    head.sample_time_us = 2.5
    for number, name in enumerate(("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")):
        setattr(head, name, np.arange(3, dtype=np.float32) + 10 * number)
    counters = ["kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase", "repetition"]
    counters += ["set", "segment"]
    for number, name in enumerate(counters):
        setattr(head.idx, name, number + 100)
    head.idx.user = [1, 2, 70000]
    bare = mrd.Acquisition(data=np.zeros((2, 9), np.complex64), trajectory=np.zeros((0, 0), np.float32))
    items = [mrd.StreamItem.Acquisition(each) for each in (made, bare)]
    scan = read_scan(request_for(path, stream(items, header())), FindingList())
    (block,) = scan.source.blocks()
    assert scan.source.heads is not None
    np.testing.assert_array_equal(np.concatenate(list(scan.source.heads())), block.headers)
    full, empty = block.headers
    expected = {
        "flags": (1 << 63) | (1 << 18),
        "measurement_uid": 7,
        "scan_counter": 1 << 31,
        "acquisition_time_stamp": 12345,
        "number_of_samples": 10,
        "available_channels": 3,
        "active_channels": 3,
        "discard_pre": 1,
        "discard_post": 2,
        "center_sample": 4,
        "trajectory_dimensions": 2,
        "sample_time_us": 2.5,
    }
    assert {name: full[name] for name in expected} == expected
    assert full["channel_mask"].tolist() == [0b1001, 2] + [0] * 14
    assert full["patient_table_position"].tolist() == [40, 41, 42]
    assert full["slice_dir"].tolist() == [30, 31, 32]
    assert [full["idx"][name] for name in counters] == list(range(100, 109))
    assert full["idx"]["user"].tolist() == [1, 2, 65535, 0, 0, 0, 0, 0]
    assert (empty["center_sample"], empty["flags"], empty["idx"]["slice"]) == (4, 0, 0)  # unsaid: the middle, none, 0
    assert block.readout(1).shape == (2, 9)


def test_header_fields(path):
    made = header(
        sequence_parameters=mrd.SequenceParametersType(t_r=[1.5], t_e=[2.5], t_i=[], flip_angle_deg=[30.0]),
        measurement_information=mrd.MeasurementInformationType(
            patient_position=mrd.PatientPosition.H_FS,
            measurement_dependency=[mrd.MeasurementDependencyType(dependency_type="Noise", measurement_id="x")],
        ),
    )
    made.acquisition_system_information = mrd.AcquisitionSystemInformationType(
        system_vendor="ACME",
        system_field_strength_t=1.5,
        relative_receiver_noise_bandwidth=0.5,
        receiver_channels=4,
        coil_label=[mrd.CoilLabelType(coil_number=1, coil_name="B"), mrd.CoilLabelType(coil_number=0, coil_name="A")],
    )
    made.encoding[0].parallel_imaging = mrd.ParallelImagingType(
        acceleration_factor=mrd.AccelerationFactorType(kspace_encoding_step_1=2, kspace_encoding_step_2=1),
        calibration_mode=mrd.CalibrationMode.INTERLEAVED,
    )
    found: MrdHeader = read_scan(request_for(path, stream(ITEMS, made)), FindingList()).source.header
    assert found.sequence.repetition_times == (1.5,)
    assert found.sequence.flip_angles == (30.0,)
    assert found.dependencies == ("noise",)
    assert (found.system.vendor, found.system.field_strength, found.system.relative_noise_bandwidth) == (
        "ACME",
        1.5,
        0.5,
    )
    assert [label.name for label in found.system.coil_labels] == ["A", "B"]
    assert found.encodings[0].parallel is not None
    assert found.encodings[0].parallel.acceleration == (2, 1)
    assert found.encodings[0].parallel.calibration_mode == "interleaved"
    assert found.encodings[0].trajectory == "cartesian"


def secret_header() -> mrd.Header:
    made = header(
        subject_information=mrd.SubjectInformationType(patient_name=SECRETS[0], patient_id=SECRETS[1]),
        study_information=mrd.StudyInformationType(referring_physician_name=SECRETS[2], study_description="1999"),
        user_parameters=mrd.UserParametersType(
            user_parameter_string=[mrd.UserParameterStringType(name="note", value=SECRETS[5])]
        ),
    )
    made.acquisition_system_information = mrd.AcquisitionSystemInformationType(
        institution_name=SECRETS[3], device_serial_number=SECRETS[4]
    )
    return made


def test_nothing_about_the_patient_is_kept(path):
    data = stream(ITEMS, secret_header())
    assert all(secret.encode() in data for secret in SECRETS)
    scan, frames, findings = load(path, data)
    kept = repr((scan.source.header, frames, list(findings)))
    assert not [secret for secret in SECRETS if secret in kept]


def test_other_items_are_left_out_and_told(path):
    image = mrd.Image[np.uint16](
        head=mrd.ImageHeader(image_type=mrd.ImageType.MAGNITUDE),
        data=np.full((1, 2, 30, 300), 60000, np.uint16),
        meta={"note": [mrd.ImageMetaValue.String("secret note"), mrd.ImageMetaValue.Int64(-5)]},
    )
    waveform = mrd.WaveformUint32(data=np.arange(2000, dtype=np.uint32).reshape(2, 1000))
    floats = mrd.Image[np.float32](
        head=mrd.ImageHeader(image_type=mrd.ImageType.PHASE), data=np.zeros((1, 1, 300, 301), np.float32), meta={}
    )
    more = [
        mrd.StreamItem.ImageUint16(image),
        mrd.StreamItem.WaveformUint32(waveform),
        mrd.StreamItem.ImageFloat(floats),
    ]
    scan, (frame,), findings = load(path, stream([*ITEMS[:3], *more, *ITEMS[3:]], header()))
    assert scan.source.count == len(ITEMS)
    np.testing.assert_allclose(frame.kspace, load(path, GOOD)[1][0].kspace)
    (found,) = (finding for finding in findings if finding.code == "mrd2-items-ignored")
    assert found.count == 3
    for tag in ("ImageUint16", "WaveformUint32", "ImageFloat"):
        assert f"1 {tag}" in found.message


def refused(path: Path, data: bytes, error: type[RecondError], reason: str, **fields: object) -> RecondError:
    with pytest.raises(error) as caught:
        load(path, data, **fields)
    assert caught.value.reason == reason
    return caught.value


def test_other_versions_are_named(path, monkeypatch):
    error = refused(path, GOOD.replace(b'"scanCounter"', b'"scanKounter"'), UnsupportedDataError, "MRD2_VERSION")
    assert "not known (schema " in error.message
    assert "2.0 and 2.1" in error.message
    known = {digest: "3.1" if version == "2.1" else version for digest, version in mrd2._VERSIONS.items()}
    monkeypatch.setattr(mrd2, "_VERSIONS", known)
    error = refused(path, GOOD, UnsupportedDataError, "MRD2_VERSION")
    assert "MRD version 3.1" in error.message
    assert "2.0 and 2.1" in error.message


def test_other_binary_format(path):
    error = refused(path, GOOD[:5] + b"\x02\0\0\0" + GOOD[9:], UnsupportedDataError, "MRD2_VERSION")
    assert "version 2 of yardl's binary format" in error.message


def test_declared_but_something_else(path):
    refused(path, b"nothing of the kind", InvalidInputError, "FORMAT_MISMATCH", kind=PartFormat.MRD2)
    refused(path, b"ya", InvalidInputError, "FORMAT_MISMATCH", kind=PartFormat.MRD2)


@pytest.mark.parametrize("length", [5, 7, 9, 11, 5000, HEADER_AT, HEADER_AT + 30, len(GOOD) // 2, len(GOOD) - 1])
def test_cut_off(path, length):
    refused(path, GOOD[:length], InvalidInputError, "MRD2_TRUNCATED")


def test_end_is_missing_between_items(path):
    whole = stream(ITEMS[:1], header())
    refused(path, whole[:-1], InvalidInputError, "MRD2_TRUNCATED")


def test_bytes_behind_the_end(path):
    assert "mrd2-trailing-bytes" in codes(load(path, GOOD + b"more")[2])


def test_no_header(path):
    refused(path, stream(ITEMS, None), InvalidInputError, "HEADER_MISSING")


def test_claims_beyond_the_end_are_refused_before_memory_is_taken(path):
    huge = b"\xff" * 9 + b"\x01"
    tracemalloc.start()
    refused(path, GOOD[:9] + huge, InvalidInputError, "MRD2_DAMAGED")  # a schema of 2^64 bytes
    refused(path, HEADER + huge, InvalidInputError, "MRD2_TRUNCATED")  # that many items
    refused(
        path, GOOD[:HEADER_AT] + b"\x01\x00\x01\x01" + huge * 2, InvalidInputError, "MRD2_TRUNCATED"
    )  # a name so long
    refused(path, HEADER + b"\x01\x77" + bytes(99), InvalidInputError, "MRD2_DAMAGED")  # a case that is none
    refused(path, HEADER + b"\xff" * 12, InvalidInputError, "MRD2_DAMAGED")  # a number without end
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 26


def test_limits(path):
    refused(path, GOOD, LimitExceededError, "FRAME_TOO_LARGE", limits=dataclasses.replace(Limits(), max_frame_bytes=64))
    long = header(subject_information=mrd.SubjectInformationType(patient_name="x" * 5000))
    small = dataclasses.replace(Limits(), max_xml_bytes=2000)
    refused(path, stream(ITEMS, long), LimitExceededError, "HEADER_TOO_LARGE", limits=small)
    load(path, GOOD, limits=small)


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": []},
        {"matrix": 70000},
        {"view": float("nan")},
        {"view": -1.0},
        {"bandwidth": 0.0},
    ],
)
def test_headers_that_cannot_be(path, change):
    made = header()
    if "encoding" in change:
        made.encoding = []
    if "matrix" in change:
        made.encoding[0].encoded_space.matrix_size.x = change["matrix"]
    if "view" in change:
        made.encoding[0].recon_space.field_of_view_mm.y = change["view"]
    if "bandwidth" in change:
        made.acquisition_system_information.relative_receiver_noise_bandwidth = change["bandwidth"]
    with pytest.raises(InvalidInputError) as caught:
        load(path, stream(ITEMS, made))
    assert caught.value.reason in {"HEADER_VALUE", "HEADER_ENCODINGS"}
    assert caught.value.field.startswith("header.")


def test_readouts_that_cannot_be(path):
    for name, reason in (("encoding_space_ref", "ENCODING_UNKNOWN"), ("discard_pre", "ACQUISITION_SIZE")):
        made = acquisition(cartesian(KSPACE, ENCODING)[0])
        setattr(made.head, name, 5 if name == "encoding_space_ref" else 70000)
        error = refused(
            path, stream([*ITEMS[:2], mrd.StreamItem.Acquisition(made)], header()), InvalidInputError, reason
        )
        assert "data[2]" in error.field


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_read_but_never_crashes(path, data):
    """Bytes behind the schema are changed, removed or added: what comes is frames or an error with a name."""
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(HEADER_AT, HEADER_AT + 700) | st.integers(HEADER_AT, len(damaged) - 1))
        place = min(place, len(damaged) - 1)
        match data.draw(st.sampled_from(["change", "remove", "add"])):
            case "change":
                damaged[place] = data.draw(st.integers(0, 255))
            case "remove":
                del damaged[place : place + data.draw(st.integers(1, 40))]
            case _:
                damaged[place:place] = data.draw(st.binary(max_size=12))
    limits = Limits(max_scan_bytes=1 << 24, max_frame_bytes=1 << 22, max_xml_bytes=1 << 16)
    with np.errstate(all="ignore"), contextlib.suppress(RecondError):
        load(path, bytes(damaged), limits=limits)
