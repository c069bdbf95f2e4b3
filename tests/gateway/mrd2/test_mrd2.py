"""MRD version 2: streams of the reference library into messages of version 1, and images back into its own readers."""

from __future__ import annotations

import datetime
import io
import itertools
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ismrmrd
import mrd
import numpy as np
import pytest
from mrd.protocols import MrdReaderBase
from mrd_streams import flat, image
from raw_builders import file_request

from recond_client.acquisitions import AcquisitionBatch
from recond_gateway.mrd.errors import ProtocolError
from recond_gateway.mrd.layouts import ACQUISITION_HEADER, IMAGE_HEADER, AcquisitionFlag
from recond_gateway.mrd.limits import WireLimits
from recond_gateway.mrd.messages import Acquisitions, ImageMessage, Waveforms
from recond_gateway.mrd2 import schema
from recond_gateway.mrd2.reader import Mrd2Reader
from recond_gateway.mrd2.writer import Mrd2Writer
from recond_service.ingest import read_scan
from recond_service.ingest.header import read_header
from recond_service.types import FindingList, Limits


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mrd2") / "phantom.bin"
    options = ["-m", "64", "-c", "4", "-s", "2", "-r", "2", "-n", "0.02", "-o", str(path)]
    subprocess.run([sys.executable, "-m", "mrd.tools.phantom", *options], check=True, capture_output=True, timeout=120)
    return path


def acquisition(
    channels: int = 2, samples: int = 8, flags: int = 0, dimensions: int = 0, **fields: Any
) -> mrd.Acquisition:
    made = mrd.Acquisition(
        data=np.arange(channels * samples).reshape(channels, samples).astype(np.complex64),
        trajectory=np.arange(dimensions * samples).reshape(dimensions, samples).astype(np.float32),
    )
    made.head.flags = mrd.AcquisitionFlags(flags)
    for name, value in fields.items():
        setattr(made.head, name, value)
    return made


def header() -> mrd.Header:
    space = mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(x=8, y=4, z=1), field_of_view_mm=mrd.FieldOfViewMm(x=80, y=40, z=5)
    )
    return mrd.Header(encoding=[mrd.EncodingType(encoded_space=space, recon_space=space)])


def stream_of(items: Iterable[Any], head: mrd.Header | None = None) -> bytes:
    stream = io.BytesIO()
    with mrd.BinaryMrdWriter(stream) as writer:
        writer.write_header(header() if head is None else head)
        writer.write_data(list(items))
    return stream.getvalue()


def item(value: mrd.Acquisition) -> mrd.StreamItem:
    return mrd.StreamItem.Acquisition(value)


def test_the_phantom_is_what_the_service_reads_of_it(phantom: Path) -> None:
    """The service has a reader of its own for the same format."""
    findings = FindingList()
    scan = read_scan(file_request(phantom), findings)
    with phantom.open("rb") as file:
        reader = Mrd2Reader(file)
        messages = list(reader.messages())
    assert not reader.ignored
    blocks = list(scan.source.blocks())
    headers = np.concatenate([message.headers for message in messages])
    assert headers.dtype == ACQUISITION_HEADER
    assert headers.tobytes() == b"".join(block.headers.tobytes() for block in blocks)
    assert b"".join(message.samples for message in messages) == b"".join(block.samples.tobytes() for block in blocks)
    assert read_header(reader.header.xml, Limits(), FindingList()) == scan.source.header


def test_batches_are_what_the_service_takes_and_end_with_each_repetition(phantom: Path) -> None:
    with phantom.open("rb") as file:
        messages = list(Mrd2Reader(file, count=48).messages())
    assert [message.count for message in messages] == [48, 48, 48, 16]
    counts = np.cumsum([message.count for message in messages]).tolist()
    assert {32 + 64, 32 + 128} <= set(counts)
    for message in messages:
        batch = AcquisitionBatch(message.headers, message.samples, message.trajectories)
        assert (batch.count, batch.size) == (message.count, message.size)


def test_batches_stay_within_their_bytes() -> None:
    stream = io.BytesIO(stream_of(item(acquisition()) for _ in range(10)))
    one = 340 + 2 * 8 * 8
    messages = list(Mrd2Reader(stream, WireLimits(batch_bytes=3 * one + 1)).messages())
    assert [message.count for message in messages] == [3, 3, 3, 1]


def test_every_field_of_an_acquisition_is_carried() -> None:
    made = acquisition(
        flags=AcquisitionFlag.REVERSE,
        dimensions=2,
        measurement_uid=7,
        scan_counter=8,
        acquisition_time_stamp=9,
        physiology_time_stamp=[1, 2, 3, 4],
        channel_order=[0, 65],
        discard_pre=1,
        discard_post=2,
        center_sample=3,
        encoding_space_ref=1,
        sample_time_us=2.5,
        position=np.array([1, 2, 3], np.float32),
        user_int=[-1],
        user_float=[0.5, 1.5],
    )
    made.head.idx.slice, made.head.idx.segment, made.head.idx.user = 5, 6, [70000, 2]
    (message,) = Mrd2Reader(io.BytesIO(stream_of([item(made)]))).messages()
    head = message.headers[0]
    other = ismrmrd.AcquisitionHeader.from_buffer_copy(head.tobytes())
    assert (other.version, other.flags, other.measurement_uid, other.scan_counter) == (1, 1 << 21, 7, 8)
    assert (other.acquisition_time_stamp, list(other.physiology_time_stamp)) == (9, [1, 2, 3])
    assert (other.number_of_samples, other.active_channels, other.trajectory_dimensions) == (8, 2, 2)
    assert (other.discard_pre, other.discard_post, other.center_sample, other.encoding_space_ref) == (1, 2, 3, 1)
    assert (list(other.channel_mask[:2]), other.sample_time_us, list(other.position)) == ([1, 2], 2.5, [1, 2, 3])
    assert (other.idx.slice, other.idx.segment, list(other.idx.user[:3])) == (5, 6, [65535, 2, 0])
    assert (list(other.user_int[:2]), list(other.user_float[:3])) == ([-1, 0], [0.5, 1.5, 0])
    trajectory = np.frombuffer(message.trajectories, np.float32).reshape(8, 2)
    assert np.array_equal(trajectory, made.trajectory.T)


def test_what_is_left_out_is_0_and_the_echo_in_the_middle() -> None:
    (message,) = Mrd2Reader(io.BytesIO(stream_of([item(acquisition(samples=9))]))).messages()
    head = message.headers[0]
    assert (head["center_sample"], head["scan_counter"], head["idx"]["slice"]) == (4, 0, 0)


def test_waveforms_keep_their_place_and_others_are_counted() -> None:
    waveform = mrd.Waveform(
        data=np.arange(6, dtype=np.uint32).reshape(2, 3), time_stamp=5, waveform_id=1, sample_time_us=100.0
    )
    array = mrd.StreamItem.ArrayComplexFloat(np.zeros((2, 2), np.complex64))
    items = [
        item(acquisition()),
        mrd.StreamItem.WaveformUint32(waveform),
        array,
        item(acquisition()),
        item(acquisition()),
    ]
    reader = Mrd2Reader(io.BytesIO(stream_of(items)))
    messages = list(reader.messages())
    assert [(type(message), message.count) for message in messages] == [
        (Acquisitions, 1),
        (Waveforms, 1),
        (Acquisitions, 2),
    ]
    (value,) = flat([messages[1]])
    other = ismrmrd.Waveform(value[1], np.frombuffer(value[2], np.uint32))
    assert (other.time_stamp, other.waveform_id, other.sample_time_us) == (5, 1, 100.0)
    assert other.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert reader.ignored == {"ArrayComplexFloat": 1}


def test_every_part_of_the_header_is_carried() -> None:
    head = header()
    head.version = 2
    head.subject_information = mrd.SubjectInformationType(
        patient_name="Müller",
        patient_weight_kg=70.5,
        patient_id="4711",
        patient_birthdate=datetime.date(1999, 1, 2),
        patient_gender=mrd.PatientGender.F,
    )
    head.study_information = mrd.StudyInformationType(
        study_time=mrd.yardl_types.Time.from_time(datetime.time(13, 14, 15)), accession_number=12
    )
    head.measurement_information = mrd.MeasurementInformationType(
        patient_position=mrd.PatientPosition.H_FS,
        protocol_name="t1",
        measurement_dependency=[mrd.MeasurementDependencyType(dependency_type="Noise", measurement_id="9")],
        referenced_image_sequence=mrd.ReferencedImageSequenceType(referenced_sop_instance_uid=["1.2"]),
    )
    head.acquisition_system_information = mrd.AcquisitionSystemInformationType(
        system_field_strength_t=3.0, coil_label=[mrd.CoilLabelType(coil_number=1, coil_name="HE1")]
    )
    head.encoding[0].trajectory = mrd.Trajectory.SPIRAL
    head.encoding[0].parallel_imaging = mrd.ParallelImagingType(
        acceleration_factor=mrd.AccelerationFactorType(kspace_encoding_step_1=2, kspace_encoding_step_2=1),
        calibration_mode=mrd.CalibrationMode.EMBEDDED,
    )
    head.encoding[0].encoding_limits.user0 = None
    head.encoding[0].encoding_limits.segment = mrd.LimitType(minimum=0, maximum=3, center=1)
    head.sequence_parameters = mrd.SequenceParametersType(
        t_r=[500.0], t_e=[10.0, 20.0], flip_angle_deg=[90.0], echo_spacing=[5.0]
    )
    head.user_parameters = mrd.UserParametersType(
        user_parameter_long=[mrd.UserParameterLongType(name="a", value=-1)],
        user_parameter_double=[mrd.UserParameterDoubleType(name="b", value=1.5)],
        user_parameter_string=[mrd.UserParameterStringType(name="c", value="x")],
        user_parameter_base64=[mrd.UserParameterBase64Type(name="d", value="QUJD")],
    )
    head.waveform_information = [
        mrd.WaveformInformationType(waveform_name="ECG", waveform_type=mrd.WaveformType.GRADIENTWAVEFORM)
    ]
    reader = Mrd2Reader(io.BytesIO(stream_of([], head)))
    assert reader.mrd_header == head
    read = ismrmrd.xsd.CreateFromDocument(reader.header.xml)
    assert read.version == 2
    subject = read.subjectInformation
    assert (subject.patientName, subject.patientWeight_kg, subject.patientID) == ("Müller", 70.5, "4711")
    assert (str(subject.patientBirthdate), subject.patientGender) == ("1999-01-02", "F")
    assert (str(read.studyInformation.studyTime), read.studyInformation.accessionNumber) == ("13:14:15", 12)
    measurement = read.measurementInformation
    assert (measurement.patientPosition.value, measurement.protocolName) == ("HFS", "t1")
    assert measurement.measurementDependency[0].measurementID == "9"
    assert measurement.referencedImageSequence.referencedSOPInstanceUID == ["1.2"]
    system = read.acquisitionSystemInformation
    assert (system.systemFieldStrength_T, system.coilLabel[0].coilName) == (3.0, "HE1")
    (encoding,) = read.encoding
    assert (encoding.trajectory.value, encoding.encodingLimits.segment.maximum) == ("spiral", 3)
    assert encoding.parallelImaging.accelerationFactor.kspace_encoding_step_1 == 2
    assert encoding.parallelImaging.calibrationMode.value == "embedded"
    sequence = read.sequenceParameters
    assert (sequence.TR, sequence.TE, sequence.flipAngle_deg, sequence.echo_spacing) == ([500], [10, 20], [90], [5])
    user = read.userParameters
    assert [(each.name, each.value) for each in user.userParameterLong + user.userParameterDouble] == [
        ("a", -1),
        ("b", 1.5),
    ]
    assert (user.userParameterString[0].value, user.userParameterBase64[0].value) == ("x", b"ABC")
    assert read.waveformInformation[0].waveformType.value == "gradientwaveform"


def refused(stream: bytes, limits: WireLimits | None = None) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        list(Mrd2Reader(io.BytesIO(stream), limits).messages())
    return caught.value


def with_schema(text: str) -> bytes:
    size, length = len(text), b""
    while size >= 128:
        length += bytes([size & 127 | 128])
        size >>= 7
    return b"yardl\x01\0\0\0" + length + bytes([size]) + text.encode()


def test_the_installed_schema_is_a_published_one() -> None:
    assert stream_of([]).startswith(with_schema(MrdReaderBase.schema))
    error = refused(with_schema(MrdReaderBase.schema.replace("scanCounter", "scanCountes")))
    assert error.reason == "MRD2_VERSION"
    assert "unknown version" in error.message
    assert "reads MRD 2.1 only" in error.message


def test_another_version_is_refused_by_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    other = MrdReaderBase.schema + " "
    monkeypatch.setitem(schema._VERSIONS, hashlib.sha256(other.encode()).hexdigest(), "2.2.0")
    message = refused(with_schema(other)).message
    assert "schema of MRD 2.2.0" in message
    assert "mrd-python 2.1" in message


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"", "NOT_MRD2"),
        (b"\x01\0simple", "NOT_MRD2"),
        (b"yardl\x02\0\0\0", "MRD2_VERSION"),
        (b"yardl\x01\0", "TRUNCATED"),
        (b"yardl\x01\0\0\0\x05{", "TRUNCATED"),
        (b"yardl\x01\0\0\0\xff\xff\xff\xff\xff\xff", "MESSAGE_TOO_LARGE"),
    ],
)
def test_streams_that_are_none(stream: bytes, reason: str) -> None:
    assert refused(stream).reason == reason


def test_a_stream_must_have_a_header() -> None:
    stream = io.BytesIO()
    with mrd.BinaryMrdWriter(stream) as writer:
        writer.write_header(None)
        writer.write_data([])
    assert refused(stream.getvalue()).reason == "HEADER_MISSING"


def test_what_came_before_the_stream_broke_off_is_yielded() -> None:
    stream = stream_of(item(acquisition()) for _ in range(3))
    messages = Mrd2Reader(io.BytesIO(stream[:-20])).messages()
    assert next(messages).count == 2
    with pytest.raises(ProtocolError) as caught:
        next(messages)
    assert caught.value.reason == "TRUNCATED"
    assert "item 2" in caught.value.message


def test_arrays_that_announce_too_much_take_no_memory() -> None:
    stream = stream_of([item(acquisition(channels=3, samples=11))])
    at = stream.rindex(bytes([3, 11]))
    huge = stream[:at] + b"\xff\xff\xff\x7f\xff\xff\xff\x7f" + stream[at + 2 :]
    assert refused(huge).reason == "MESSAGE_TOO_LARGE"
    assert refused(stream, WireLimits(data_bytes=100)).reason == "MESSAGE_TOO_LARGE"


def test_an_item_of_endless_small_parts_is_refused() -> None:
    made = acquisition(user_int=list(range(10_000)))
    made.head.user_int *= 10
    assert refused(stream_of([item(made)]), WireLimits(text_bytes=70_000)).reason == "MESSAGE_TOO_LARGE"


def test_counters_that_do_not_fit_are_refused() -> None:
    made = acquisition()
    made.head.idx.slice = 65536
    error = refused(stream_of([item(made)]))
    assert error.reason == "BAD_STREAM"
    assert "slice 65536" in error.message


def test_acquisitions_over_what_the_service_takes_are_refused() -> None:
    assert refused(stream_of([item(acquisition(channels=8, samples=65535))])).reason == "MESSAGE_TOO_LARGE"


def test_damaged_streams_raise_one_kind_of_error() -> None:
    valid = stream_of([item(acquisition(user_int=[1, 2])) for _ in range(4)])
    begin = len(with_schema(MrdReaderBase.schema))
    generator = random.Random(3)
    reasons = set()
    for _ in range(400):
        stream = bytearray(valid)
        for _ in range(generator.randint(1, 4)):
            stream[generator.randrange(begin, len(stream))] = generator.randrange(256)
        try:
            list(Mrd2Reader(io.BytesIO(bytes(stream))).messages())
        except ProtocolError as error:
            reasons.add(error.reason)
    assert reasons >= {"TRUNCATED", "BAD_STREAM"}


def test_the_last_line_of_a_slice_does_not_wait_for_more() -> None:
    """Everything up to the end of a slice is sent, and no byte more, until its message is there."""
    last = acquisition(flags=AcquisitionFlag.LAST_IN_SLICE)
    whole = stream_of([item(acquisition()), item(last), item(acquisition())])
    cut = len(stream_of([item(acquisition()), item(last)])) - 1
    sending, receiving = socket.socketpair()
    received = threading.Event()
    in_time = []

    def send() -> None:
        with sending:
            for byte in range(0, cut, 997):
                sending.sendall(whole[byte : min(byte + 997, cut)])
            in_time.append(received.wait(30))
            sending.sendall(whole[cut:])

    thread = threading.Thread(target=send)
    thread.start()
    with receiving, receiving.makefile("rb") as file:
        messages = Mrd2Reader(file).messages()
        first = next(messages)
        received.set()
        rest = list(messages)
    thread.join()
    assert (first.count, in_time, [message.count for message in rest]) == (2, [True], [1])


def message_of(made: ismrmrd.Image) -> ImageMessage:
    head = np.frombuffer(bytes(made.getHead()), IMAGE_HEADER)[0]
    return ImageMessage(head, made.attribute_string, made.data.tobytes())


def images_of(stream: bytes) -> tuple[mrd.Header, list[Any]]:
    with mrd.BinaryMrdReader(io.BytesIO(stream)) as reader:
        return reader.read_header(), list(reader.read_data())


@pytest.mark.parametrize(
    ("dtype", "tag"),
    [
        (np.uint16, "ImageUint16"),
        (np.int16, "ImageInt16"),
        (np.uint32, "ImageUint32"),
        (np.float32, "ImageFloat"),
        (np.float64, "ImageDouble"),
        (np.complex64, "ImageComplexFloat"),
        (np.complex128, "ImageComplexDouble"),
    ],
)
def test_images_are_read_by_the_reference_library(dtype: Any, tag: str) -> None:
    made = image(dtype=dtype)
    made.position[:], made.read_dir[:], made.phase_dir[:] = (1, 2, 3), (1, 0, 0), (0, 1, 0)
    made.slice, made.image_series_index, made.image_type = 4, 2, ismrmrd.IMTYPE_PHASE
    stream = io.BytesIO()
    with Mrd2Writer(stream, header()) as writer:
        writer.write(message_of(made))
    head, (got,) = images_of(stream.getvalue())
    assert head == header()
    assert got.tag == tag
    assert np.array_equal(got.value.data, made.data)
    read = got.value.head
    assert (read.slice, read.image_series_index, read.image_index, read.image_type) == (4, 2, 3, mrd.ImageType.PHASE)
    assert (read.position.tolist(), read.col_dir.tolist(), read.line_dir.tolist()) == ([1, 2, 3], [1, 0, 0], [0, 1, 0])
    assert got.value.meta == {"SeriesDescription": [mrd.ImageMetaValue.String("prüfung")]}


def test_attributes_have_types() -> None:
    made = image()
    made.meta = ismrmrd.Meta(
        {"WindowWidth": "300", "Score": "0.5", "Id": "007", "Names": ["a", "b"], "Infinite": "inf"}
    )
    stream = io.BytesIO()
    with Mrd2Writer(stream, None) as writer:
        writer.write(message_of(made))
        writer.write(ImageMessage(message_of(made).header, "no XML <", made.data.tobytes()))
    _, (first, second) = images_of(stream.getvalue())
    value = mrd.ImageMetaValue
    assert first.value.meta == {
        "WindowWidth": [value.Int64(300)],
        "Score": [value.Float64(0.5)],
        "Id": [value.String("007")],
        "Names": [value.String("a"), value.String("b")],
        "Infinite": [value.String("inf")],
    }
    assert second.value.meta == {"attributes": [value.String("no XML <")]}


def test_each_image_is_out_at_once() -> None:
    stream = io.BytesIO()
    writer = Mrd2Writer(stream, header())
    sizes = [len(stream.getvalue())]
    for _ in range(3):
        writer.write(message_of(image()))
        sizes.append(len(stream.getvalue()))
    assert all(after - before > 24 * 4 for before, after in itertools.pairwise(sizes))
    writer.close()
    assert len(images_of(stream.getvalue())[1]) == 3


def test_no_image_is_a_whole_stream_too() -> None:
    stream = io.BytesIO()
    with Mrd2Writer(stream, header()):
        pass
    assert images_of(stream.getvalue()) == (header(), [])
